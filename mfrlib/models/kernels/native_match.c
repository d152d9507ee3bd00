/* The best match of every row of a dictionary among the rows of another, and which matches cannot have changed.
 *
 * All rows have length 1 (or less). The match is the row with the largest cosine in float32, `dot_four`'s; among equals
 * the first. Whatever the way to it, searched in bfloat16 (native_search.c) or kept from an earlier step, it is the
 * same row.
 *
 * A search leaves with each row the NEAR rows that looked most alike, a bound on each one's cosine and one on the rest.
 * Let p(r) be the length of the way that row r has gone since the start. No cosine of rows r and v grows by more than
 * both have moved, so a bound less p(r) + p(v) at the time of the search, a *level*, plus p(r) + p(v) now is a bound now.
 * For the rest, the way of the row that moved most in each step stands for p(v). compiled.py builds this file.
 */
#ifdef __AVX512BF16__
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef struct dictionary dictionary; /* of native_search.c, as what follows */
typedef struct workspace workspace;
dictionary *dictionary_new(const float *rows, const float *bias, const uint32_t *panels, const float *bounds, int bytes,
                           i64 f, i64 d);
i64 dictionary_block(const dictionary *D);
void dictionary_free(dictionary *D);
workspace *workspace_new(const dictionary *D);
void workspace_free(workspace *w);
void bound_rows(const dictionary *D, workspace *w, const float *x, const i64 *which, i64 n);
i64 nearest_row(const dictionary *D, workspace *w, i64 r, const float *x, i64 k, float *share, float *found, int32_t *near,
                float *above, float *rest);
void dot_four(const float *x, const float *const *rows, i64 d, float *products);
float dot(const float *a, const float *b, i64 d);                                                  /* native.c */
void add_rows(float *y, const float *table, const i64 *which, i64 stride, const float *coefficient, i64 n, i64 d);

#define NEAR 8
#define SLACK 1e-9 /* above what sums of levels and ways, in double precision, can lose */

/* What is kept of a row's last search. */
typedef struct {
    double rest, level[NEAR];
    int32_t near[NEAR], match, searched;
} memory;

i64 memory_size(void) { return sizeof(memory); }

/* Twice what rounding can do to a cosine: from a score to another bound on a score. */
static double rounding_of(i64 d) { return 2.02 * 0x1p-24 * (double)(d / 16 + 64); }

/* Bring rows of `weight` (f, d), of lengths `norm`, to length 1, in `unit`, and add how far each has moved there from what
 * `unit` held to `way`; returns the farthest. */
double move_rows(const float *weight, const float *norm, i64 f, i64 d, float *unit, double *way, int threads) {
    double farthest = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(max : farthest)
    for (i64 i = 0; i < f; i++) {
        const float *from = weight + i * d, n = norm[i];
        float *to = unit + i * d, moved = 0;
#pragma omp simd reduction(+ : moved)
        for (i64 c = 0; c < d; c++) {
            const float now = from[c] / n, by = now - to[c];
            to[c] = now;
            moved += by * by;
        }
        const double step = sqrt((double)moved) * (1.0001 + (double)d * 0x1p-24);
        way[i] += step;
        farthest = step <= farthest ? farthest : step; /* or not a number */
    }
    return farthest;
}

/* Whether a row's match is certain without a search; the match may be another of its near rows now. */
static int keep_row(memory *m, const float *a, const float *b, i64 d, double way, const double *ways, double farthest,
                    double rounding) {
    const float *rows[4];
    float products[4];
    if (!m->searched) return 0;
    for (int c = 0; c < 4; c++) rows[c] = b + m->match * d;
    dot_four(a, rows, d, products);
    float best = products[0];
    int32_t match = m->match;
    if (!(best > m->rest + way + farthest + SLACK)) return 0;
    for (int j = 0; j < NEAR; j++) {
        const int32_t other = m->near[j];
        if (other == match || best > m->level[j] + way + ways[other] + SLACK) continue;
        rows[0] = b + other * d;
        dot_four(a, rows, d, products);
        m->level[j] = products[0] + rounding - way - ways[other];
        if (products[0] > best || (products[0] == best && other < match)) best = products[0], match = other;
    }
    if (!(best > m->rest + way + farthest + SLACK)) return 0;
    m->match = match;
    return 1;
}

/* For each row of a (n, d) the best match among b (f, d): into `match` (n), with what is kept in `memories` (n) brought up
 * to date. `way_a`, `way_b`: how far each row has gone; `farthest`: the sum of the longest step of each time. Returns
 * how many rows were searched. */
i64 match_rows(const float *a, const float *b, const uint32_t *panels, const float *bounds, int bytes, i64 n, i64 f, i64 d,
               const double *way_a, const double *way_b, double farthest, memory *memories, i64 *match, int threads) {
    const double rounding = rounding_of(d);
    i64 *which = malloc((n + 1) * sizeof(i64)), left = 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 i = 0; i < n; i++)
        match[i] = keep_row(memories + i, a + i * d, b, d, way_a[i], way_b, farthest, rounding) ? memories[i].match : -1;
    for (i64 i = 0; i < n; i++)
        if (match[i] < 0) which[left++] = i;
    dictionary *D = dictionary_new(b, NULL, panels, bounds, bytes, f, d);
    const i64 block = dictionary_block(D), near = f < NEAR ? f : NEAR;
#pragma omp parallel num_threads(threads)
    {
        workspace *w = workspace_new(D);
        float share = 0;
#pragma omp for schedule(static)
        for (i64 part = 0; part < threads; part++) {
            const i64 end = left * (part + 1) / threads;
            for (i64 start = left * part / threads; start < end; start += block) {
                const i64 m = end - start < block ? end - start : block;
                bound_rows(D, w, a, which + start, m);
                for (i64 r = 0; r < m; r++) {
                    const i64 i = which[start + r];
                    memory *kept = memories + i;
                    float found, above[NEAR], rest;
                    match[i] = nearest_row(D, w, r, a + i * d, near, &share, &found, kept->near, above, &rest);
                    kept->match = (int32_t)match[i], kept->searched = 1;
                    kept->rest = rest - way_a[i] - farthest;
                    for (i64 j = 0; j < NEAR; j++) {
                        if (j >= near) kept->near[j] = kept->match;
                        kept->level[j] = j < near ? above[j] - way_a[i] - way_b[kept->near[j]] : INFINITY;
                    }
                }
            }
        }
        workspace_free(w);
    }
    dictionary_free(D), free(which);
    return left;
}

/* The gradient of the summed cosines of matched rows, by the rows before they are brought to length 1: (s, f, d), and what
 * each row adds to twice the sum, `along` (s, f). `pairs` (n, 2) of SAEs; `match` (n, f): rows of each pair's second.
 * With u the unit rows and g the sum of the rows that u is matched with, in either role, it is (g - <u, g> u) / |w|. */
void match_gradient(const float *unit, const float *norm, const i64 *pairs, const i64 *match, i64 n, i64 s, i64 f, i64 d,
                    float *gradient, float *along, int threads) {
    i64 *start = calloc(s * f + 1, sizeof(i64)), *at = malloc(s * f * sizeof(i64)), *which = malloc(2 * n * f * sizeof(i64));
    for (i64 p = 0; p < n; p++)
        for (i64 r = 0; r < f; r++) start[pairs[2 * p] * f + r + 1]++, start[pairs[2 * p + 1] * f + match[p * f + r] + 1]++;
    i64 most = 0;
    for (i64 i = 0; i < s * f; i++) {
        most = start[i + 1] > most ? start[i + 1] : most;
        start[i + 1] += start[i], at[i] = start[i];
    }
    for (i64 p = 0; p < n; p++)
        for (i64 r = 0; r < f; r++) {
            const i64 one = pairs[2 * p] * f + r, other = pairs[2 * p + 1] * f + match[p * f + r];
            which[at[one]++] = other, which[at[other]++] = one;
        }
    float *ones = malloc((most + 1) * sizeof(float));
    for (i64 i = 0; i < most; i++) ones[i] = 1;
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
    for (i64 i = 0; i < s * f; i++) {
        const float *u = unit + i * d;
        float *g = gradient + i * d;
        memset(g, 0, d * sizeof(float));
        add_rows(g, unit, which + start[i], d, ones, start[i + 1] - start[i], d);
        along[i] = dot(u, g, d);
        for (i64 c = 0; c < d; c++) g[c] = (g[c] - along[i] * u[c]) / norm[i];
    }
    free(start), free(at), free(which), free(ones);
}
#endif
