"use strict";
// Click a heading to sort, again to turn the order round, a third time for the order of the report. A long table gets a filter.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const value = (row, i) => {
    const cell = row.cells[i];
    if (!cell) return "";
    const text = cell.dataset.v ?? cell.textContent.trim(), number = Number(text.replaceAll(",", ""));
    return text === "" || text === "-" ? -Infinity : Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => typeof a === typeof b ? (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true })) : typeof a === "number" ? -1 : 1;
  const heads = [...table.tHead.rows[0].cells];
  if (rows.length > 2) heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const first = head.classList.contains("n") ? "descending" : "ascending", other = first === "ascending" ? "descending" : "ascending";
      const now = head.ariaSort, next = !now ? first : now === first ? other : null;
      heads.forEach(h => h.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      body.append(...(next ? [...rows].sort((a, b) => sign * order(value(a, i), value(b, i))) : rows));
    };
  });
  if (rows.length > 20) {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = `filter ${rows.length} rows`;
    input.setAttribute("aria-label", "filter rows");
    input.oninput = () => rows.forEach(r => { r.hidden = !r.textContent.toLowerCase().includes(input.value.toLowerCase()); });
    table.parentElement.before(input);
  }
}
