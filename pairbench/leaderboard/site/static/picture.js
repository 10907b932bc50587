"use strict";
(function picture() {
  const table = document.getElementById("picture-table"), find = document.getElementById("find");
  const single = document.getElementById("single"), said = document.getElementById("said");
  if (!table || !find) return;
  const rows = [...table.tBodies[0].rows];
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.dataset.row.toLowerCase();
      const hit = words.every((word) => text.includes(word));
      row.hidden = !hit || (!words.length && !single.checked && row.classList.contains("single"));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    said.textContent = shown < rows.length ? `${shown} of ${rows.length} rows shown.` : "";
  };
  find.addEventListener("input", filter);
  single.addEventListener("change", filter);
  single.checked = !rows.some((row) => !row.classList.contains("single"));
  filter();
  document.getElementById("filters").hidden = false;
})();
