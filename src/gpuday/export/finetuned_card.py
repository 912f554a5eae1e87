"""The card of a kept model: what it was fine-tuned on, how well it does, and how to load it. From the score's own file."""

import json
import shlex
from typing import Any

import jinja2

from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.pooling import is_pooled
from gpuday.evaluate.scorefile import Score
from gpuday.evaluate.tasks.rows import TaskData
from gpuday.evaluate.tasks.task import Kind
from gpuday.export import task_heads
from gpuday.export.card import code, inline, literal, one_line, place_of
from gpuday.export.kept import Kept

_TEMPLATE = """\
---
{%- if native %}
library_name: transformers
pipeline_tag: {{ tag }}
{%- endif %}
tags: [encoder, gpuday]
---
# {{ kept.task | inline }}

An encoder ({{ score.subject | code }}) fine-tuned on {{ kept.task | code }} by gpuday, protocol {{ kept.protocol | code }},
seed {{ kept.seed }}.
{%- if native %} It is a native {{ native | code }}: no remote code.
{%- else %} It is in gpuday's own format: {{ section.reason | inline }}.
{%- endif %}

## Use

```sh
gpuday predict {{ typed }} new.csv --out answers.jsonl
```
{%- if native %}

```python
from transformers import {{ auto }}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({{ place }})
model = {{ auto }}.from_pretrained({{ place }})
```
{%- endif %}

`predictions.jsonl` has its answer to every row of the dev set, `score.json` the whole record of the score.

## Facts

| | |
|---|---|
{%- for label, value in facts %}
| {{ label }} | {{ value | inline }} |
{%- endfor %}

## Limits

- Rows are cut to {{ kept.length }} tokens{{ ", and contexts are read in several windows" if kept.kind == "span" }}.
- It answers every row with one of the answers that it was trained on, whether or not any of them fits.
- The score is of the rows of one dev set; other text may be answered worse.

<details><summary>Every hyperparameter</summary>

```json
{{ hyperparameters }}
```

</details>
"""
_PARTS = 5  # of a path from the run's folder on: RUN/finetuned/SUITE/TASK/SEED
_TAGS: dict[Kind, str] = {
    "classification": "text-classification",
    "regression": "text-classification",
    "choice": "multiple-choice",
    "tagging": "token-classification",
    "span": "question-answering",
}


def write_finetuned_card(
    kept: Kept, *, score: Score, data: TaskData, interval: Interval | None, section: dict[str, Any]
) -> str:
    """Markdown; `section` is what `keep` returns, `interval` that of the score over the rows of dev."""
    native, place = section["architecture"], place_of(section["folder"], _PARTS)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (not HTML)
    environment.filters |= {"inline": inline, "code": code}
    return environment.from_string(_TEMPLATE, template_class=jinja2.Template).render(
        kept=kept,
        score=score,
        section=section,
        native=native,
        place=literal(place),
        typed=shlex.quote(one_line(place)),
        auto=task_heads.auto(kept.kind),
        tag=_TAGS[kept.kind],
        facts=list(_facts(kept, score, data, interval, section)),
        hyperparameters=json.dumps({**score.hyperparameters, **score.chosen}, indent=2),
    )


def _facts(
    kept: Kept, score: Score, data: TaskData, interval: Interval | None, section: dict[str, Any]
) -> list[tuple[str, str]]:
    """Labels and values. The interval is over rows: another dev set of this size would mostly score within it."""
    between = "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f} at {interval.confidence:.0%})"
    facts: list[tuple[str, str]] = [("Kind", kept.kind)]
    if kept.classes:
        facts.append(("Classes", ", ".join(kept.classes)))
    if is_pooled(kept.as_task()):
        facts.append(("The head reads", "position 0" if kept.pooling == "first" else "the mean of a row's tokens"))
    facts += [
        (f"Dev {name}", f"{value:.3f}{between * (name == score.metric)}") for name, value in score.metrics.items()
    ]
    facts += [(f"Dev {score.metric}, {how}", f"{value:.3f}") for how, value in score.baseline.items()]
    facts += [
        ("Train rows", f"{score.train_rows:,} of {score.train_rows_available:,}"),
        ("Dev rows", f"{score.dev_rows:,}"),
        ("Data hash", data.data_hash),
        ("Weights before fine-tuning", score.model_hash),
        ("Seconds", f"{score.seconds:,.1f} on {score.device}"),
        ("Equal to the fine-tuned model within", f"{section['parity_max_abs']:.2g} (largest difference of a logit)"),
    ]
    if section["changed"]:
        facts.append(("Dev rows answered otherwise in fp32 than when scored", f"{section['changed']:.2%}"))
    if score.recipe_fingerprint is not None:
        facts.append(("Recipe fingerprint", score.recipe_fingerprint))
    return facts
