/* The sparse half of a tied TopK SAE on a CPU: select, decode, and the gradient, for rows of float32.
 *
 * ../sparse.py says what is computed and holds the plain form that this must equal; compiled.py builds this
 * file. Results do not depend on the number of threads: every sum is taken by one thread, in a fixed order.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
#ifdef __AVX512BF16__ /* native_search.c */
void dot_four(const float *x, const float *const *rows, i64 d, float *products);
#endif

/* Eight floats side by side: one register where the processor has them, several where it has not. Unaligned. */
typedef float lanes __attribute__((vector_size(32), aligned(4)));

/* The widest register that there is. */
#ifdef __AVX512F__
#define WIDE 16
#else
#define WIDE 8
#endif
typedef float wide __attribute__((vector_size(4 * WIDE), aligned(4)));

/* y[0:d] += sum over j of coefficient[j] * table[which[j] * stride + 0:d], one after the other. A block of columns stays in
 * registers over all the rows. */
#define BLOCK(TYPE, WIDTH, N)                                                                                    \
    for (; d - at >= WIDTH * N; at += WIDTH * N) {                                                               \
        TYPE sum[N];                                                                                             \
        _Pragma("GCC unroll 8") for (int c = 0; c < N; c++) sum[c] = *(const TYPE *)(y + at + WIDTH * c);        \
        for (i64 j = 0; j < n; j++) {                                                                            \
            const float *row = table + which[j] * stride + at;                                                   \
            _Pragma("GCC unroll 8") for (int c = 0; c < N; c++)                                                  \
                sum[c] += coefficient[j] * *(const TYPE *)(row + WIDTH * c);                                     \
        }                                                                                                        \
        _Pragma("GCC unroll 8") for (int c = 0; c < N; c++) *(TYPE *)(y + at + WIDTH * c) = sum[c];              \
    }

void add_rows(float *restrict y, const float *restrict table, const i64 *restrict which, i64 stride,
              const float *restrict coefficient, i64 n, i64 d) {
    i64 at = 0;
    BLOCK(wide, WIDE, 64 / WIDE)
    BLOCK(lanes, 8, 4)
    BLOCK(lanes, 8, 1)
    for (; at < d; at++)
        for (i64 j = 0; j < n; j++) y[at] += coefficient[j] * table[which[j] * stride + at];
}

float dot(const float *restrict a, const float *restrict b, i64 d) {
    lanes sum[4] = {{0}};
    i64 at = 0;
    for (; d - at >= 32; at += 32)
        _Pragma("GCC unroll 4") for (int c = 0; c < 4; c++)
            sum[c] += *(const lanes *)(a + at + 8 * c) * *(const lanes *)(b + at + 8 * c);
    sum[0] += sum[1] + (sum[2] + sum[3]);
    float total = ((sum[0][0] + sum[0][1]) + (sum[0][2] + sum[0][3])) + ((sum[0][4] + sum[0][5]) + (sum[0][6] + sum[0][7]));
    for (; at < d; at++) total += a[at] * b[at];
    return total;
}

/* The products of x with n rows of a table. */
static void dot_rows(const float *x, const float *table, const i64 *which, i64 n, i64 d, float *products) {
#ifdef __AVX512BF16__
    for (i64 j = 0; j < n; j += 4) {
        const float *rows[4];
        float found[4];
        for (i64 c = 0; c < 4; c++) rows[c] = table + which[j + c < n ? j + c : n - 1] * d;
        dot_four(x, rows, d, found);
        for (i64 c = 0; c < 4 && j + c < n; c++) products[j + c] = found[c];
    }
#else
    for (i64 j = 0; j < n; j++) products[j] = dot(table + which[j] * d, x, d);
#endif
}

static int32_t count_above(const float *restrict x, i64 n, float threshold) {
    int32_t count = 0;
#pragma omp simd reduction(+ : count)
    for (i64 i = 0; i < n; i++) count += x[i] > threshold;
    return count;
}

/* Indices of the k largest of n entries; among equals the first; NaN counts as larger than any number.
 *
 * A threshold with exactly k entries above it is searched between the least and the greatest, by interpolation on the
 * counts and bisection in turn: a handful of passes over a row that stays in the cache, instead of a sort. `guess` is
 * where to look first (the last row's threshold) and is replaced. */
void select_row(const float *restrict x, i64 n, i64 k, i64 *restrict index, float *guess) {
    for (; k > n; k--) index[k - 1] = 0; /* there are no more than n: looked for, they would be looked for without end */
    float low = INFINITY, high = -INFINITY;
    int32_t nans = 0;
#pragma omp simd reduction(min : low) reduction(max : high) reduction(+ : nans)
    for (i64 i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        nans += x[i] != x[i];
    }
    i64 wanted = k, m = 0;
    if (nans) {
        for (i64 i = 0; i < n && m < k; i++)
            if (x[i] != x[i]) index[m++] = i;
        if (m == k) return;
        wanted = k - m;
    }
    /* Invariant: more than `wanted` entries are >= low, at most `wanted` are > high. */
    float threshold = high;
    i64 at_low = n - nans, at_high = 0;
    if (at_low == wanted) threshold = -INFINITY;
    else {
        float middle = *guess;
        for (int turn = 0;; turn++) {
            if (!(middle > low && middle < high)) {
                middle = low + (high - low) * 0.5f;
                if (!(middle > low && middle < high)) break; /* neighbours: equals, or an infinite range */
            }
            const i64 count = count_above(x, n, middle);
            if (count == wanted) {
                threshold = middle;
                break;
            }
            if (count > wanted) low = middle, at_low = count;
            else high = middle, at_high = count;
            threshold = high;
            const float share = turn % 2 ? 0.5f : (float)(at_low - wanted) / (float)(at_low - at_high);
            middle = low + (high - low) * share;
        }
        *guess = threshold;
    }
    i64 *found = index + m, filled = 0;
    for (i64 i = 0; i < n && filled < wanted; i++) {
        found[filled] = i;
        filled += x[i] > threshold;
    }
    /* Equals of the k-th largest: the greatest entry not above the threshold, taken from the left. */
    while (filled < wanted) {
        float next = -INFINITY;
        for (i64 i = 0; i < n; i++) next = x[i] <= threshold && x[i] > next ? x[i] : next;
        for (i64 i = 0; i < n && filled < wanted; i++)
            if (x[i] == next) found[filled++] = i;
        threshold = nextafterf(next, -INFINITY);
    }
}

/* The k largest entries of every row: their values and indices, each (rows, k). */
void select_rows(const float *x, i64 rows, i64 n, i64 k, float *values, i64 *indices, int threads) {
#pragma omp parallel num_threads(threads)
    {
        float guess = NAN;
#pragma omp for schedule(static)
        for (i64 r = 0; r < rows; r++) {
            select_row(x + r * n, n, k, indices + r * k, &guess);
            for (i64 j = 0; j < k; j++) values[r * k + j] = x[r * n + indices[r * k + j]];
        }
    }
}

/* Sums of rows of a table (any, d), each times a coefficient: y (rows, d) = sum over j of coefficient[j] * scale[j] * row[j].
 * `which` and `coefficient` are (rows, k); `scale`, one for each row of the table, may be null. */
void sum_rows(const float *table, const float *scale, const i64 *which, const float *coefficient, i64 rows, i64 k, i64 d,
              float *y, int threads) {
#pragma omp parallel num_threads(threads)
    {
        float *scaled = malloc(k * sizeof(float));
#pragma omp for schedule(static)
        for (i64 r = 0; r < rows; r++) {
            const float *c = coefficient + r * k;
            for (i64 j = 0; j < k; j++) scaled[j] = scale ? c[j] * scale[which[r * k + j]] : c[j];
            memset(y + r * d, 0, d * sizeof(float));
            add_rows(y + r * d, table, which + r * k, d, scaled, k, d);
        }
        free(scaled);
    }
}

/* Of one row's k codes: how fast the sum grows along dy with each (`along`), and from it the gradient of the
 * pre-activations, `d_hidden` added to what it holds: 0 where ReLU has cut. */
static void row_gradient(const float *dy, const float *weight, const float *scale, const i64 *indices, const float *values,
                         i64 k, i64 d, int relu, float *along, float *d_hidden) {
    dot_rows(dy, weight, indices, k, d, along);
    for (i64 j = 0; j < k; j++) {
        along[j] *= scale ? scale[indices[j]] : 1;
        d_hidden[j] = relu && values[j] == 0 ? 0 : d_hidden[j] + along[j];
    }
}

/* The same for every row: `along` and `d_hidden` are (rows, k). */
void gradient_rows(const float *dy, const float *weight, const float *scale, const i64 *indices, const float *values,
                   i64 rows, i64 k, i64 d, int relu, float *along, float *d_hidden, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 r = 0; r < rows; r++)
        row_gradient(dy + r * d, weight, scale, indices + r * k, values + r * k, k, d, relu, along + r * k, d_hidden + r * k);
}

/* What a row's squared error needs once its k codes are selected: ReLU, decode, compare with x, and the gradient back to
 * the pre-activations. `dy` becomes 2 factor (y - x), `error` factor |y - x|^2; `scaled` has room for k. */
void error_row(const float *x, const float *weight, const float *scale, const i64 *index, float *value, i64 k, i64 d,
               int relu, float factor, float *scaled, float *dy, float *error, float *along, float *d_hidden) {
    for (i64 j = 0; j < k; j++) {
        if (relu && value[j] < 0) value[j] = 0;
        scaled[j] = scale ? value[j] * scale[index[j]] : value[j];
        d_hidden[j] = 0;
    }
    for (i64 c = 0; c < d; c++) dy[c] = -x[c];
    add_rows(dy, weight, index, d, scaled, k, d);
    *error = factor * dot(dy, dy, d);
    for (i64 c = 0; c < d; c++) dy[c] *= 2 * factor;
    row_gradient(dy, weight, scale, index, value, k, d, relu, along, d_hidden);
}

/* Everything the squared error needs, while a row's features are in the cache: select the codes (rows, k) among `hidden`
 * (rows, f), and `error_row`. */
void error_rows(const float *x, const float *hidden, const float *weight, const float *scale, i64 rows, i64 f, i64 k, i64 d,
                int relu, float factor, float *values, i64 *indices, float *dy, float *error, float *along, float *d_hidden,
                int threads) {
#pragma omp parallel num_threads(threads)
    {
        float guess = NAN, *scaled = malloc(k * sizeof(float));
#pragma omp for schedule(static)
        for (i64 r = 0; r < rows; r++) {
            i64 *index = indices + r * k;
            float *value = values + r * k;
            select_row(hidden + r * f, f, k, index, &guess);
            for (i64 j = 0; j < k; j++) value[j] = hidden[r * f + index[j]];
            error_row(x + r * d, weight, scale, index, value, k, d, relu, factor, scaled, dy + r * d, error + r,
                      along + r * k, d_hidden + r * k);
        }
        free(scaled);
    }
}

/* Adds to d_weight (f, d) and d_bias (f), or to 0 where they are `fresh`, what comes through pre-activations h = x W' + b and
 * through sums y = sum over j of v_j s_j W_j; s is 1 / |W_j| (unit rows) or null (raw rows).
 *
 * Entries are listed by feature within tiles of rows that fit the cache, so that a feature's gradient is summed by one thread
 * while it stays in registers: nothing is scattered. Where features have many entries, one tile follows the other, and two
 * halves of the rows are summed apart: each of two threads then sums the rows that it has searched, and only sums are
 * exchanged. Where they have few, each row of d_weight is written once. */
void accumulate(const float *x, const float *dy, const float *weight, const float *scale, const i64 *indices,
                const float *values, const float *along, const float *d_hidden, i64 rows, i64 k, i64 f, i64 d,
                int fresh, float *d_weight, float *d_bias, int threads) {
    const i64 tile = 128, tiles = (rows + tile - 1) / tile, entries = tile * k;
    const int many = rows * k >= 32 * f, halves = many && tiles > 1 ? 2 : 1;
    const i64 parts = threads % halves ? threads : threads / halves, together = many ? 1 : tiles;
    i64 *start = malloc(tiles * (f + 1) * sizeof(i64));          /* of each feature's entries within a tile */
    i64 *source = malloc(tiles * entries * sizeof(i64));         /* the entry's row */
    float *on_dy = malloc(3 * tiles * entries * sizeof(float));  /* its coefficients on dy, on x */
    float *on_x = on_dy + tiles * entries;
    float *radial = on_x + tiles * entries;                      /* and on the feature itself */
    float *own = calloc(2 * halves * f, sizeof(float));          /* by half and feature: sum of that, and for the bias */
    float *second = halves > 1 ? malloc(f * d * sizeof(float)) : NULL;
#pragma omp parallel num_threads(threads)
    {
        i64 *next = malloc((f + 1) * sizeof(i64));
#pragma omp for schedule(static)
        for (i64 t = 0; t < tiles; t++) {
            const i64 first = t * tile, last = first + tile < rows ? first + tile : rows;
            i64 *begin = start + t * (f + 1);
            memset(next, 0, (f + 1) * sizeof(i64));
            for (i64 e = first * k; e < last * k; e++) next[indices[e] + 1]++;
            for (i64 i = 0; i < f; i++) next[i + 1] += next[i];
            memcpy(begin, next, (f + 1) * sizeof(i64));
            for (i64 r = first; r < last; r++)
                for (i64 e = r * k; e < (r + 1) * k; e++) {
                    const i64 i = indices[e], at = t * entries + next[i]++;
                    const float s = scale ? scale[i] : 1;
                    source[at] = r;
                    on_dy[at] = values[e] * s;
                    on_x[at] = d_hidden[e];
                    radial[at] = scale ? -values[e] * along[e] * s * s : 0;
                }
        }
        free(next);
#pragma omp for schedule(static)
        for (i64 unit = 0; unit < halves * parts; unit++) {
            const i64 half = unit / parts, part = unit % parts, first = tiles * half / halves;
            const i64 last = tiles * (half + 1) / halves, fill = fresh || half;
            float *to = half ? second : d_weight;
            /* Features are shared out so that each part has about as many entries. */
            i64 all = 0, mine = part ? f : 0, end = f, before = 0;
            for (i64 t = first; t < last; t++) all += start[t * (f + 1) + f];
            for (i64 i = 0; i < f; i++) {
                if (mine == f && before >= all * part / parts) mine = i;
                if (part + 1 < parts && before >= all * (part + 1) / parts) {
                    end = i;
                    break;
                }
                for (i64 t = first; t < last; t++) before += start[t * (f + 1) + i + 1] - start[t * (f + 1) + i];
            }
            for (i64 from = first; from < last; from += together)
                for (i64 i = mine; i < end; i++) {
                    float *row = to + i * d, radius = own[2 * (half * f + i)], bias = own[2 * (half * f + i) + 1];
                    for (i64 c = 0; c < d && halves == 1; c += 16) /* read below, and written next by the optimiser */
                        __builtin_prefetch(weight + i * d + c, 1);
                    if (fill && from == first) memset(row, 0, d * sizeof(float));
                    for (i64 t = from; t < from + together && t < last; t++) {
                        const i64 a = t * entries + start[t * (f + 1) + i], n = t * entries + start[t * (f + 1) + i + 1] - a;
                        if (!n) continue;
                        add_rows(row, dy, source + a, d, on_dy + a, n, d);
                        add_rows(row, x, source + a, d, on_x + a, n, d);
                        for (i64 e = a; e < a + n; e++) radius += radial[e], bias += on_x[e];
                    }
                    if (halves == 1 && from + together >= last) {
                        if (radius != 0)
                            for (i64 c = 0; c < d; c++) row[c] += radius * weight[i * d + c];
                        d_bias[i] = fresh ? bias : d_bias[i] + bias;
                    }
                    own[2 * (half * f + i)] = radius, own[2 * (half * f + i) + 1] = bias;
                }
        }
#pragma omp for schedule(static)
        for (i64 i = 0; i < (halves > 1 ? f : 0); i++) {
            const float *a = own + 2 * i, *b = a + 2 * f, radius = a[0] + b[0];
            float *row = d_weight + i * d;
            for (i64 c = 0; c < d; c++) row[c] += second[i * d + c] + radius * weight[i * d + c];
            d_bias[i] = (fresh ? 0 : d_bias[i]) + (a[1] + b[1]);
        }
    }
    free(start), free(source), free(on_dy), free(own), free(second);
}
