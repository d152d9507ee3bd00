// The ledger's filters, and its addresses: #S8 unfolds what it names. Without this script every row is there, folded.
document.addEventListener("DOMContentLoaded", () => {
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.closest(".mfr-ledger")) return;
    const fold = target.closest("details") || target.querySelector("details");
    if (fold) fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  for (const ledger of document.querySelectorAll(".mfr-ledger")) {
    const form = ledger.querySelector("form.mfr-filters");
    const apply = () => {
      const chosen = new FormData(form), verdicts = chosen.getAll("verdict");
      const fits = (row) => (!verdicts.length || verdicts.includes(row.dataset.verdict)) &&
        ["paper", "scale"].every((name) => !chosen.get(name) || chosen.get(name) === row.dataset[name]);
      const any = verdicts.length || chosen.get("paper") || chosen.get("scale");
      let rows = 0, items = 0;
      for (const item of ledger.querySelectorAll("ol > li")) {
        const found = [...item.querySelectorAll(".mfr-row")].filter((row) => !(row.hidden = !fits(row)));
        item.hidden = !found.length;
        item.querySelector("details").open = Boolean(any && verdicts.length && found.length);
        rows += found.length;
        items += Boolean(found.length);
      }
      form.querySelector("output").value = any ? `${items} ${ledger.matches(".mfr-questions") ? "questions" : "claims"}, ${rows} tests` : "";
    };
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
  }
  reveal();
});
