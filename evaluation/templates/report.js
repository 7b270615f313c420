(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var dark = window.matchMedia("(prefers-color-scheme: dark)");

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function themed(layout) {
    var text = colour("--text"), grid = colour("--grid"), panel = colour("--panel");
    var axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickcolor: grid };
    var result = Object.assign({}, layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: panel, bordercolor: grid, font: { color: text } }
    });
    result.xaxis = Object.assign({}, layout.xaxis, axis);
    result.yaxis = Object.assign({}, layout.yaxis, axis);
    return result;
  }

  function draw() {
    Object.keys(figures).forEach(function (key) {
      var place = document.getElementById("chart-" + key);
      Plotly.react(place, figures[key].data, themed(figures[key].layout), {
        displayModeBar: false,
        displaylogo: false,
        responsive: true
      });
    });
  }

  draw();
  dark.addEventListener("change", draw);
})();
