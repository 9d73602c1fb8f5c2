// Sorts tables by the column whose heading is clicked, or chosen by Enter or the space bar. Once on a page; without it the tables are as they were made.
(() => {
  const page = document.documentElement;
  if ("winnowTables" in page.dataset) return;
  page.dataset.winnowTables = "";
  const value = (row, column) => {
    const cell = row.cells[column], number = cell.dataset.value;
    return number === undefined ? cell.textContent.trim() : Number(number);
  };
  const missing = (value) => value === "" || Number.isNaN(value);
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  const sort = (heading) => {
    const body = heading.closest("table").tBodies[0], column = heading.cellIndex;
    const falling = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => ({ row, value: value(row, column) }));
    rows.sort((a, b) => missing(a.value) - missing(b.value) || (falling ? compare(b.value, a.value) : compare(a.value, b.value)));
    body.append(...rows.map(({ row }) => row));
  };
  const headingOf = (event) => event.target instanceof Element ? event.target.closest(".winnow-table thead th") : null;
  document.addEventListener("click", (event) => {
    const heading = headingOf(event);
    if (heading) sort(heading);
  });
  document.addEventListener("keydown", (event) => {
    const heading = event.key === "Enter" || event.key === " " ? headingOf(event) : null;
    if (heading) event.preventDefault(), sort(heading);
  });
})();
