/* Scores of search results: Sphinx's own, within chapters, then notebooks, guides, what is about the book, and the API. */
var Scorer = {
  score: ([docname, , , , score]) => score - 1000 * [
    /^executed\//,
    /^(rerun|take-away|scaling|performance|readings|paper-figures)$/,
    /^(status|environment|glossary|references|changelog)$/,
    /^(api|genindex|py-modindex|_modules)/,
  ].findIndex((one) => one.test(docname)) - 1000,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

/* Opened as a file, a page may not fetch another for its excerpt, but may load a script that has the text of all. */
if (typeof location !== "undefined" && location.protocol === "file:") {
  let texts;
  const load = () => new Promise((done) => {
    const script = document.createElement("script");
    script.src = (document.documentElement.dataset.content_root || "") + "_static/search-texts.js";
    script.onload = script.onerror = () => done(window.mfrTexts || {});
    document.head.append(script);
  });
  window.fetch = (url) => (texts ??= load()).then((found) => {
    const main = document.createElement("div");
    main.setAttribute("role", "main");
    main.textContent = found[String(url).replace(/^(\.\/)*|\.html$/g, "")] || "";
    return new Response(main.textContent && main.outerHTML);
  });
}
