/* Scores of search results: Sphinx's own, but for the API and the indices, which come last. */
var Scorer = {
  score: ([docname, , , , score]) => (/^(api|genindex|py-modindex)/.test(docname) ? score - 1000 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
