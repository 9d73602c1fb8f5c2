// Puts live charts in the place of their images. Where scripts do not run, the images stay.
for (const figure of document.querySelectorAll("figure.chart")) {
  const place = document.createElement("div"), image = figure.querySelector("img");
  const { data, layout, config } = JSON.parse(figure.querySelector("script").textContent);
  image.before(place);
  image.hidden = true;
  Plotly.newPlot(place, data, layout, config).catch((error) => {
    place.remove();
    image.hidden = false;
    throw error;
  });
}
