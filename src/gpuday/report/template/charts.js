"use strict";
// Draws the charts from the block of JSON, in the colours of the style sheet; those of a run's steps against the axis the
// reader chose.
(function () {
  const data = JSON.parse(document.getElementById("curves").textContent);
  const lossChart = document.getElementById("loss-chart");
  const scheduleChart = document.getElementById("schedule-chart");
  const learningCharts = document.querySelectorAll(".learning-chart");
  if (!lossChart && !learningCharts.length) return;

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const settings = {
    responsive: true,
    displaylogo: false,
    // Named one by one: a button that sends the chart elsewhere has no place in this page.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "curves" },
  };

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function chosen() {
    const radio = document.querySelector("input[name=axis]:checked");
    return radio ? radio.value : data.axes[0].key;
  }

  function furthest(key) {
    return data.steps[key].concat(data.heldout[key]).reduce((a, b) => Math.max(a, b), 0) || 1;
  }

  // One look for all axes: seconds with a decimal, counts with a prefix.
  function axisX(key, extra) {
    const title = data.axes.find((axis) => axis.key === key).title;
    const counts = key === "tokens" || key === "flops";
    return Object.assign(
      {
        title: { text: title, standoff: 8 },
        tickformat: counts ? "~s" : undefined,
        hoverformat: counts ? ".3s" : key === "step" ? ",d" : ".2f",
        gridcolor: colour("grid"),
        linecolor: colour("rule"),
        zeroline: false,
        range: [0, 1.02 * furthest(key)], // both charts show the same stretch
        nticks: window.innerWidth < 600 ? 5 : 10,
      },
      extra
    );
  }

  function axisY(title, extra) {
    const look = { title: { text: title, standoff: 8 }, gridcolor: colour("grid"), zeroline: false };
    return Object.assign(look, extra);
  }

  function layout(extra) {
    return Object.assign(
      {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
        margin: { l: 64, r: 12, t: 36, b: 48 },
        hovermode: "x unified",
        hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("rule"), font: { color: colour("ink") } },
        legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("accent") },
      },
      extra
    );
  }

  // A dashed line where a later attempt took over.
  function resumes(key) {
    return data.resumes[key].map((x) => ({
      type: "line", xref: "x", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("faint"), width: 1, dash: "dash" },
    }));
  }

  // The first steps stand far above the rest; the frame follows the smoothed curve and the held-out points instead.
  function frame() {
    const values = data.steps.smoothed.concat(data.heldout.nats).filter((v) => v !== null);
    if (!values.length) return undefined;
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const room = 0.06 * (high - low || 1);
    return [low - room, high + room];
  }

  // A part of the held-out text and all of it are two questions: no line joins their answers.
  function heldOut(name, key, wanted, marker) {
    const looks = data.heldout;
    const pick = (column) => column.filter((_, i) => wanted(looks.final[i]));
    return {
      name, x: pick(looks[key]), y: pick(looks.nats), customdata: pick(looks.rows), mode: "lines+markers",
      line: { color: colour("heldout"), width: 1.5, dash: "dot" },
      marker: Object.assign({ color: colour("heldout"), line: { color: colour("page"), width: 1.5 } }, marker),
      hovertemplate: "%{y:.3f} (%{customdata} rows)",
    };
  }

  function drawLoss(key) {
    const steps = data.steps;
    const few = steps.loss.length < 3;
    const traces = [
      {
        name: "each step", x: steps[key], y: steps.loss, mode: few ? "markers" : "lines",
        line: { color: colour("train"), width: 1 }, opacity: 0.4, hoverinfo: "skip",
      },
      {
        name: "training, smoothed", x: steps[key], y: steps.smoothed, mode: "lines",
        line: { color: colour("train"), width: 2.5 }, hovertemplate: "%{y:.3f}",
      },
      heldOut("held out, a part", key, (final) => !final, { size: 8 }),
      heldOut("held out, at the end", key, (final) => final, { size: 12, symbol: "diamond" }),
    ].filter((trace) => trace.x.length);
    const y = axisY("nats per masked token", { range: frame() });
    Plotly.react(lossChart, traces, layout({ xaxis: axisX(key), yaxis: y, shapes: resumes(key) }), settings);
  }

  function drawSchedule(key) {
    const steps = data.steps;
    const panels = [
      ["rate multiplier", steps.multiplier, "y", "%{y:.3f}", "rate"],
      ["rows in a step", steps.rows, "y2", "%{y:,d}", "rows"],
      ["predicted in a step", steps.masked, "y3", "%{y:,d}", "masked"],
    ];
    const traces = panels.map(([name, y, yaxis, hovertemplate, hue]) => ({
      name, x: steps[key], y, yaxis, hovertemplate, mode: "lines", showlegend: false, line: { color: colour(hue), width: 2 },
    }));
    const named = panels.map(([name], i) => ({
      text: name, x: 0, xref: "paper", xanchor: "left", y: [1, 0.645, 0.29][i], yref: "paper", yanchor: "bottom",
      showarrow: false, font: { color: colour("faint"), size: 12 },
    }));
    const view = layout({
      margin: { l: 64, r: 12, t: 24, b: 48 },
      xaxis: axisX(key, { anchor: "y3" }),
      yaxis: axisY("", { domain: [0.72, 1], rangemode: "tozero", nticks: 4 }),
      yaxis2: axisY("", { domain: [0.365, 0.635], rangemode: "tozero", nticks: 4 }),
      yaxis3: axisY("", { domain: [0, 0.28], rangemode: "tozero", nticks: 4 }),
      annotations: named,
      shapes: resumes(key),
    });
    Plotly.react(scheduleChart, traces, view, settings);
  }

  // Medians with their intervals, and every seed beside them; a point without an interval stands alone.
  function drawLearning(chart, curve) {
    const away = (ends, sign) => ends.map((end, i) => (end === null || curve.median[i] === null ? 0 : sign * (end - curve.median[i])));
    const traces = [
      {
        x: curve.seed_rows, y: curve.seed_values, mode: "markers", hoverinfo: "skip",
        marker: { color: colour("train"), size: 6, opacity: 0.35 },
      },
      {
        x: curve.rows, y: curve.median, mode: "lines+markers", hovertemplate: "%{y:.3f}<extra></extra>",
        line: { color: colour("train"), width: 2 }, marker: { color: colour("train"), size: 8 },
        error_y: {
          type: "data", symmetric: false, array: away(curve.high, 1), arrayminus: away(curve.low, -1),
          color: colour("train"), thickness: 1.5, width: 5,
        },
      },
    ];
    const x = { type: "log", title: { text: "training rows", standoff: 8 }, gridcolor: colour("grid"), linecolor: colour("rule"), zeroline: false, dtick: 1 };
    const view = layout({ margin: { l: 56, r: 12, t: 8, b: 44 }, showlegend: false, xaxis: x, yaxis: axisY("score") });
    Plotly.react(chart, traces, view, settings);
  }

  function draw() {
    const key = chosen();
    if (lossChart && scheduleChart) {
      drawLoss(key);
      drawSchedule(key);
    }
    learningCharts.forEach((chart, i) => drawLearning(chart, data.learning[i]));
    document.documentElement.dataset.axis = key;
  }

  draw();
  document.querySelectorAll("input[name=axis]").forEach((radio) => radio.addEventListener("change", draw));
  dark.addEventListener("change", draw);
  // Paper is light whatever the screen was.
  function drawFor(paper) {
    document.documentElement.classList.toggle("paper", paper);
    draw();
  }
  window.addEventListener("beforeprint", () => drawFor(true));
  window.addEventListener("afterprint", () => drawFor(false));
})();
