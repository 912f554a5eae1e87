"""The model card of an exported folder, from the run's own files: nothing in it that they do not say.

Names, labels and paths are text: no markdown, HTML or YAML in them acts, and no link is made of them.
"""

import json
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import jinja2

_TEMPLATE = """\
---
library_name: transformers
pipeline_tag: {{ "feature-extraction" if note else "fill-mask" }}
tags: [encoder, {{ "masked-language-modelling, " if masked }}{{ export.kind | tojson }}, gpuday]
---
# {{ name | inline }}

A transformer encoder trained **from scratch** by {{ how }} with gpuday: recipe {{ recipe.preset | code }},
size {{ recipe.size | code }}, within a budget of {{ budget | inline }}. It is a native {{ export.kind | code }} model: no remote code.
{%- if note %}
The folder holds {{ note | inline }}.
{%- endif %}

## Use

```python
from transformers import {{ auto }}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({{ place }})
model = {{ auto }}.from_pretrained({{ place }})
```

`AutoModelForSequenceClassification` loads the same folder with a new head, ready for fine-tuning. `model.safetensors`
is fp32.

## Facts

| | |
|---|---|
{%- for label, value in facts %}
| {{ label }} | {{ value | inline }} |
{%- endfor %}
{%- if scores %}

## Scores
{%- for protocol, rows in scores %}

Fine-tuned by protocol {{ protocol | inline }}; median over seeds.

| task | metric | score | seeds | spread | without an encoder |
|---|---|---|---|---|---|
{%- for row in rows %}
| {{ row | map("inline") | join(" | ") }} |
{%- endfor %}
{%- endfor %}
{%- endif %}

## Limits

- Rows of at most {{ export.max_length }} tokens: longer ones were never trained{{ cut }}.
- {{ "Every use" if note else "It predicts masked tokens; every other use" }} needs fine-tuning.
- It knows what its training text says and nothing else, biases and errors of that text included.

<details><summary>The whole recipe</summary>

```json
{{ recipe_json }}
```

</details>
"""

# What the card tells, where summary.json has it, and how it is written.
_FACTS = (
    ("Parameters", "model.parameters", "{:,.0f}"),
    ("Vocabulary", "model.vocabulary", "{:,.0f}"),
    ("Tokens seen", "train.tokens", "{:,.0f}"),
    ("Optimizer steps", "train.steps", "{:,.0f}"),
    ("Passes over the text", "train.epochs", "{:.3g}"),
    ("Training FLOPs", "train.flops", "{:.3g}"),
    ("Seconds used", "clock.used_seconds", "{:,.1f}"),
    ("Device", "device", "{}"),
    ("Energy", "energy_joules", "{:,.0f} J"),
    ("Held-out loss, nats per masked token", "heldout.nats_per_token", "{:.4f}"),
    ("Held-out word bits per byte", "heldout.word_bits_per_byte", "{:.4f}"),
    ("Recipe fingerprint", "recipe_fingerprint", "{}"),
    ("Seed", "seed", "{}"),
)
# What trains a head for masked tokens, in words; other objectives are told by their name.
_HOW = {"mlm": "masked-language modelling", "hybrid": "causal and masked-language modelling"}


def write_card(*, name: str, recipe: dict[str, Any], summary: dict[str, Any], export: dict[str, Any]) -> str:
    """Markdown from recipe.json, summary.json (what is missing there is missing here) and the export's own section."""
    facts = [("Training text", _sources(recipe))] if _sources(recipe) else []
    for label, path, form in _FACTS:
        value = _at(summary, path)
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            facts.append((label, form.format(value) if form == "{}" or not isinstance(value, str) else value))
    objective = recipe["objective"]["part"]
    note = export.get("reason") or ""
    answer = "hidden state" if note else "logit"
    parity = f"{export['parity_max_abs']:.2g} (largest difference of a {answer}, fp32, transformers {export['transformers']})"
    facts += [("Longest row", f"{export['max_length']} tokens"), ("Equal to the trained model within", parity)]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (not HTML)
    environment.filters |= {"inline": inline, "code": code}
    return environment.from_string(_TEMPLATE, template_class=jinja2.Template).render(
        name=name,
        recipe=recipe,
        masked=objective in _HOW and not note,
        how=_HOW.get(objective, f"the objective {code(objective)}"),
        note=note,
        auto=auto_of(export),
        place=literal(place_of(export["folder"], 2)),
        recipe_json=json.dumps(_without_folders(recipe), indent=2),
        budget=_budget(recipe["budget"]),
        export=export,
        facts=facts,
        scores=list(_scores(summary)),
        cut=", and its table of positions ends there" if export["kind"] == "bert" else "",
    )


def auto_of(export: dict[str, Any]) -> str:
    """The class of Transformers that loads the folder of an export's section."""
    return "AutoModel" if export.get("reason") else "AutoModelForMaskedLM"


def place_of(folder: str, parts: int) -> str:
    """A folder as it was named; of an absolute path only the last parts, since folders tell of their owner."""
    path = PurePath(folder)
    return str(PurePath(*path.parts[-parts:]) if path.is_absolute() else path)


def literal(text: str) -> str:
    """Text as a string of Python on one line, whatever it holds."""
    return json.dumps(text)


def _budget(budget: dict[str, Any]) -> str:
    amount = float(budget["amount"])
    if budget["unit"] != "seconds":
        return f"{amount:,.4g} {budget['unit']}"
    if amount < 120:
        return f"{amount:.4g} seconds"
    return f"{amount / 3600:.4g} hours" if amount >= 3600 else f"{amount / 60:.4g} minutes"


def _sources(recipe: dict[str, Any]) -> str:
    """The corpus as the recipe names it; of a path only the last part, since folders tell of their owner."""
    corpus = recipe.get("data", {}).get("corpus") or []
    return ", ".join(name if name.startswith("hub:") else PurePath(name).name for name in corpus)


def _without_folders(value: Any) -> Any:
    """The recipe with absolute paths cut to their last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _at(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _scores(summary: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(protocol, rows) of each suite that was scored."""
    for section in (summary.get("scores") or {}).values():
        if isinstance(section, dict) and section.get("tasks"):
            yield str(section.get("protocol")), [_task(name, task) for name, task in section["tasks"].items()]


def _task(name: str, task: dict[str, Any]) -> tuple[str, ...]:
    """Name, metric, median, seeds, spread, and the same metric's value without an encoder."""
    baselines = ", ".join(f"{how} {value:.3f}" for how, value in task["baseline"].items())
    metric = task["metric"] + (" (part of the official rows)" if task["partial"] else "")
    return name, metric, f"{task['median']:.3f}", str(task["n"]), f"{task['spread']:.3f}", baselines


def one_line(value: Any) -> str:
    """Text without line ends, control characters and those that turn the direction of what follows."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def inline(value: Any) -> str:
    """Text in which nothing is markdown or HTML, nor an address that a reader of markdown would make a link of."""
    escaped = re.sub(r"([\\`*\[\]<>|&@~$#])", r"\\\1", one_line(value).strip())
    escaped = re.sub(
        r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped
    )  # between letters it is no emphasis, and names are full of it
    return re.sub(r"(?i)(:)(?=//)|(?<=www)(\.)", r"\\\1\2", escaped)


def code(value: Any) -> str:
    """Text as a code span, which ends at a backtick and at nothing else."""
    return "`" + one_line(value).replace("`", "'") + "`"
