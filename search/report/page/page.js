"use strict";
// sorts and filters tables, and opens the rows behind a line; every text from results is set as textContent
(() => {
  const collator = new Intl.Collator("en", { numeric: true });
  const remembered = (name, value) => {
    const key = `theriac-report:${location.pathname}:${name}`;
    try {
      if (value === undefined) return sessionStorage.getItem(key);
      sessionStorage.setItem(key, value);
    } catch { /* a browser may keep nothing for files */ }
    return null;
  };
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  // --- sorting: numbers by number, texts after them, missing values last whichever way
  const worth = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.text ?? cell.textContent;
    if (cell.dataset.v !== undefined) return { kind: 0, number: Number(cell.dataset.v), text };
    return { kind: text === "\u2013" || text === "" ? 2 : 1, number: 0, text };
  };
  const compared = (a, b, sign) => {
    if (a.kind === 2 || b.kind === 2) return a.kind - b.kind;
    if (a.kind !== b.kind) return sign * (a.kind - b.kind);
    return sign * (a.kind === 0 ? a.number - b.number : collator.compare(a.text, b.text));
  };
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].filter((row) => !row.classList.contains("behind"));
    const sign = direction === "ascending" ? 1 : -1;
    const keyed = rows.map((row) => ({ row, key: worth(row, column) }));
    keyed.sort((a, b) => compared(a.key, b.key, sign));
    body.append(...keyed.flatMap(({ row }) => (row.opened ? [row, row.opened] : [row])));
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    [...heads].forEach((head, number) => {
      if (number === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
  };
  const makeSortable = (table) => {
    const heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    [...heads].forEach((head, column) => {
      const button = element("button", head.textContent);
      button.type = "button";
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        sort(table, column, up ? "ascending" : "descending");
        if (table.id) remembered(`sort-${table.id}`, `${column} ${up ? "ascending" : "descending"}`);
      });
      head.replaceChildren(button);
    });
    const [column, direction] = (table.id && remembered(`sort-${table.id}`)?.split(" ")) || [];
    if (direction && column < heads.length) sort(table, Number(column), direction);
  };

  // --- the rows behind a line
  const behindTable = (data, rows) => {
    const table = element("table");
    const head = table.createTHead().insertRow();
    data.titles.forEach((title, k) => head.append(element("th", title, data.right[k] ? "r" : "")));
    const body = table.createTBody();
    for (const texts of rows) {
      const line = body.insertRow();
      texts.forEach((text, k) => line.append(element("td", text, text.length > 40 ? "w" : data.right[k] ? "r" : "")));
    }
    return table;
  };
  const behindRow = (data, line, width) => {
    const row = element("tr", undefined, "behind");
    const cell = row.insertCell();
    cell.colSpan = width;
    const rows = data.rows[line];
    const left = data.counts[line] - rows.length;
    if (rows.length) cell.append(behindTable(data, rows));
    if (left) {
      const more = rows.length ? `${left} more rows` : `The ${left} rows of this line`;
      cell.append(element("p", `${more} are not in this page: theriac table RESULTS --aggregate --explain ${line + 1}:healed`));
    }
    return row;
  };
  const toggle = (data, row, button) => {
    const open = !row.opened;
    if (open) {
      row.opened = behindRow(data, row.line, row.cells.length);
      row.after(row.opened);
    } else {
      row.opened.remove();
      row.opened = undefined;
    }
    row.classList.toggle("is-open", open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "\u25be" : "\u25b8";
  };
  const makeOpenable = (table, data) => {
    [...table.tBodies[0].rows].forEach((row, line) => {
      row.line = line;
      row.classList.add("line");
      const cell = row.cells[0];
      cell.dataset.text = cell.textContent;
      const button = element("button", "\u25b8", "open");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-label", `Rows behind line ${line + 1}`);
      cell.prepend(button);
      row.addEventListener("click", (event) => {
        const selecting = String(getSelection()) !== "" && event.target !== button;
        if (!selecting) toggle(data, row, button);
      });
    });
  };

  // --- the filter: every word must stand in the line
  const makeFilter = (table, box, count) => {
    const rows = [...table.tBodies[0].rows];
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
    const apply = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, k) => {
        const fits = words.every((word) => texts[k].includes(word));
        row.hidden = !fits;
        if (row.opened) row.opened.hidden = !fits;
        shown += fits;
      });
      count.textContent = `${shown} of ${rows.length} lines`;
      remembered("filter", box.value);
    };
    box.value = remembered("filter") ?? "";
    box.addEventListener("input", apply);
    apply();
  };

  const lines = document.getElementById("lines");
  if (lines) {
    makeFilter(lines, document.getElementById("filter"), document.getElementById("count"));
    makeOpenable(lines, JSON.parse(document.getElementById("behind").textContent));
    document.querySelector(".controls").hidden = false;
  }
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
  document.documentElement.dataset.ready = "yes";
})();
