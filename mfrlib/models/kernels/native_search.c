/* The k largest pre-activations of a row, searched in few bits and certified: the answer is that of a search in float32.
 *
 * With a row's rounding error e(x) >= |x - x'| and a feature's e(w) >= |w - w'|, Cauchy-Schwarz bounds what rounding
 * both does to their product:
 *
 *     |x w - x' w'|  <=  e(x) |w| + (|x| + e(x)) e(w)
 *
 * To it come the roundings of the sums, in the product of what is rounded and in float32's. If k entries have scores of t
 * or more in float32, entries whose upper bound is below t are not among the k largest. The others, a few more than k, are
 * scored in float32. Where a bound is not a number or not finite, or leaves too many, nothing is certified: the row is
 * reported, and its caller searches it with more bits.
 *
 * Rows are rounded in one of two ways: to bytes, times a step of the row's own, whose products cost less than half; or to
 * bfloat16, whose errors are a seventh as large. compiled.py builds this file.
 */
#ifdef __AVX512BF16__
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
#define ROWS 12  /* rows and features (two registers) of a tile of the product: 24 sums in registers */
#define PANEL 32
#define HELD 600000 /* bytes of upper bounds held at once: they stay in a core's second cache */

void select_row(const float *x, i64 n, i64 k, i64 *index, float *guess); /* native.c */
void error_row(const float *x, const float *weight, const float *scale, const i64 *index, float *value, i64 k, i64 d,
               int relu, float factor, float *scaled, float *dy, float *error, float *along, float *d_hidden);

/* Bounds of a row: its length, and the length of what rounding took from it; both from above, or not finite. Of bytes also
 * the step, and -128 times their sum, which makes good that the other side's bytes are larger by 128. */
typedef struct { float length, lost, step; int32_t shift; } bound;

/* Round a row of d to bytes, of which `words` words are written, the padding 0. Without `sign` they are larger by 128. */
static bound to_bytes(const float *x, i64 d, i64 words, int sign, uint32_t *rounded) {
    __m512 most = _mm512_setzero_ps(), length = most, lost = most;
    __m512i sum = _mm512_setzero_si512();
    for (i64 at = 0; at < d; at += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(at + 16 <= d ? 0xffff : (1u << (d - at)) - 1, x + at);
        most = _mm512_max_ps(_mm512_abs_ps(v), most);
        length = _mm512_fmadd_ps(v, v, length);
    }
    /* Steps and squares must not underflow: of a row so small nothing is left. */
    const float all = _mm512_reduce_add_ps(length), top = _mm512_reduce_max_ps(most), step = top < 1e-10f ? 0 : top / 127;
    const __m512 by = _mm512_set1_ps(step), over = _mm512_set1_ps(step > 0 ? 1 / step : 0);
    for (i64 at = 0; at < 4 * words; at += 16) {
        const __mmask16 here = at + 16 <= d ? 0xffff : at < d ? (1u << (d - at)) - 1 : 0;
        const __m512 v = _mm512_maskz_loadu_ps(here, x + at);
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(v, over));
        const __m512 gone = _mm512_fnmadd_ps(by, _mm512_cvtepi32_ps(whole), v);
        const __m128i bytes = _mm512_cvtsepi32_epi8(whole);
        _mm_storeu_si128((__m128i *)(rounded + at / 4), sign ? bytes : _mm_xor_si128(bytes, _mm_set1_epi8((char)0x80)));
        sum = _mm512_add_epi32(sum, whole);
        lost = _mm512_fmadd_ps(gone, gone, lost);
    }
    const float up = 1 + (float)(d / 16 + 32) * 0x1p-24f, small = (float)d * (step > 0 ? 0x1p-62f : 1e-10f);
    return (bound){sqrtf(all) * up + small, sqrtf(_mm512_reduce_add_ps(lost)) * up + small, step,
                   (int32_t)(-128u * (uint32_t)_mm512_reduce_add_epi32(sum))};
}

/* Round a row of d to `words` pairs of bfloat16, the padding 0. */
static bound to_pairs(const float *x, i64 d, i64 words, uint32_t *rounded) {
    __m512 length = _mm512_setzero_ps(), lost = length;
    for (i64 at = 0; at < 2 * words; at += 16) {
        const __mmask16 here = at + 16 <= d ? 0xffff : at < d ? (1u << (d - at)) - 1 : 0;
        const __m512 v = _mm512_maskz_loadu_ps(here, x + at);
        const __m256i half = (__m256i)_mm512_cvtneps_pbh(v);
        const __m512 gone = _mm512_sub_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)));
        _mm256_storeu_si256((__m256i *)(rounded + at / 2), half);
        length = _mm512_fmadd_ps(v, v, length);
        lost = _mm512_fmadd_ps(gone, gone, lost);
    }
    const float up = 1 + (float)(d / 16 + 32) * 0x1p-24f;
    bound found = {_mm512_reduce_add_ps(length), _mm512_reduce_add_ps(lost), 0, 0};
    /* Squares that may have underflowed are taken again in double precision; those that overflowed certify nothing. */
    if (found.length < 1e-20f || found.lost < 1e-20f) {
        double wide = 0, wide_lost = 0;
        for (i64 i = 0; i < d; i++) {
            const uint32_t bits = (uint32_t)((const uint16_t *)rounded)[i] << 16;
            float back;
            memcpy(&back, &bits, 4);
            wide += (double)x[i] * x[i], wide_lost += ((double)x[i] - back) * ((double)x[i] - back);
        }
        found = (bound){(float)sqrt(wide) * up + 0x1p-149f, (float)sqrt(wide_lost) * up + 0x1p-149f, 0, 0};
    } else found = (bound){sqrtf(found.length) * up, sqrtf(found.lost) * up, 0, 0};
    return found;
}

/* Turn 16 rows of 16 words into columns, the first n of which are written, one for each row of a panel. */
static void transpose(const uint32_t *from, i64 stride, uint32_t *to, i64 n) {
    __m512i a[16], b[16];
    for (int r = 0; r < 16; r++) a[r] = _mm512_loadu_si512(from + r * stride);
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) { /* pairs of rows, then fours of words, then quarters of a register */
        b[2 * r] = _mm512_unpacklo_epi32(a[2 * r], a[2 * r + 1]);
        b[2 * r + 1] = _mm512_unpackhi_epi32(a[2 * r], a[2 * r + 1]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        a[4 * r] = _mm512_unpacklo_epi64(b[4 * r], b[4 * r + 2]), a[4 * r + 1] = _mm512_unpackhi_epi64(b[4 * r], b[4 * r + 2]);
        a[4 * r + 2] = _mm512_unpacklo_epi64(b[4 * r + 1], b[4 * r + 3]);
        a[4 * r + 3] = _mm512_unpackhi_epi64(b[4 * r + 1], b[4 * r + 3]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m512i low = _mm512_shuffle_i32x4(a[r], a[4 + r], 0x88), high = _mm512_shuffle_i32x4(a[8 + r], a[12 + r], 0x88);
        const __m512i odd = _mm512_shuffle_i32x4(a[r], a[4 + r], 0xdd), top = _mm512_shuffle_i32x4(a[8 + r], a[12 + r], 0xdd);
        b[r] = _mm512_shuffle_i32x4(low, high, 0x88), b[8 + r] = _mm512_shuffle_i32x4(low, high, 0xdd);
        b[4 + r] = _mm512_shuffle_i32x4(odd, top, 0x88), b[12 + r] = _mm512_shuffle_i32x4(odd, top, 0xdd);
    }
    for (i64 c = 0; c < n; c++) _mm512_storeu_si512(to + c * PANEL, b[c]);
}

/* How many words a row of d takes in a product; and in memory, rounded up to whole registers. */
static i64 words_of(i64 d, int bytes) { return bytes ? (d + 3) / 4 : (d + 1) / 2; }
static i64 padded_words_of(i64 d, int bytes) { return (words_of(d, bytes) + 15) / 16 * 16; }

/* Of a dictionary of f rows of d, rounded to `bytes` or to bfloat16: `panels` of 32 rows, in which the words of one place
 * lie side by side (f / 32, words_of(d), 32), f rounded up and padded with 0, and each row's `bound` (f, 4). */
void pack_rows(const float *rows, i64 f, i64 d, int bytes, uint32_t *panels, float *bounds, int threads) {
    const i64 used = words_of(d, bytes), words = padded_words_of(d, bytes);
#pragma omp parallel num_threads(threads)
    {
        uint32_t *rounded = calloc(PANEL * words, sizeof(uint32_t));
#pragma omp for schedule(static)
        for (i64 p = 0; p < (f + PANEL - 1) / PANEL; p++) {
            const i64 n = f - p * PANEL < PANEL ? f - p * PANEL : PANEL;
            memset(rounded, 0, PANEL * words * sizeof(uint32_t));
            for (i64 r = 0; r < n; r++) {
                const float *row = rows + (p * PANEL + r) * d;
                uint32_t *to = rounded + r * words;
                ((bound *)bounds)[p * PANEL + r] = bytes ? to_bytes(row, d, words, 1, to) : to_pairs(row, d, words, to);
            }
            uint32_t *panel = panels + p * used * PANEL;
            for (i64 c = 0; c < used; c += 16)
                for (int half = 0; half < 2; half++)
                    transpose(rounded + 16 * half * words + c, words, panel + c * PANEL + 16 * half,
                              used - c < 16 ? used - c : 16);
        }
        free(rounded);
    }
}

/* A dictionary ready for the search, and what a thread needs to search in it. */
typedef struct dictionary {
    const uint32_t *panels;
    const float *rows, *bias;
    float *bounds, *raised, *slack;  /* by panel: 32 lengths, losses, steps, shifts; bias and its own bound; that bound */
    float longest, most_lost, most_raised;
    i64 f, d, used, words, stride, padded, block;
    int bytes;
} dictionary;

typedef struct workspace {
    uint32_t *rounded;
    float *upper, *on_length, *on_lost, *length, *step, *score, *among;
    int32_t *list, *picked, *place;
    i64 *chosen;
} workspace;

/* The product of 12 rows from `row` on with a panel, and on top of it each entry's bound: into w->upper. `START` reads what
 * sums begin with, `PRODUCT` adds a word's product to one, and `NUMBER` adds the bias to what it stands for. */
#define TILE(NAME, SUM, START, PRODUCT, NUMBER)                                                                      \
    static void NAME(const dictionary *D, const workspace *w, i64 row, i64 p) {                                      \
        const uint32_t *a = w->rounded + row * D->stride, *panel = D->panels + p * D->used * PANEL;                  \
        const uint32_t *a4 = a + 4 * D->stride, *a8 = a + 8 * D->stride;                                             \
        const float *bounds = D->bounds + 4 * p * PANEL;                                                             \
        SUM sum[ROWS][2];                                                                                            \
        const SUM first = START(bounds + 3 * PANEL), second = START(bounds + 3 * PANEL + 16);                        \
        _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) sum[r][0] = first, sum[r][1] = second;               \
        for (i64 c = 0; c < D->used; c++) {                                                                          \
            const __m512i left = _mm512_loadu_si512(panel + c * PANEL);                                              \
            const __m512i right = _mm512_loadu_si512(panel + c * PANEL + 16);                                        \
            _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) {                                                \
                const uint32_t *from = r < 4 ? a : r < 8 ? a4 : a8;                                                  \
                const __m512i word = _mm512_set1_epi32((int)from[(r & 3) * D->stride + c]);                          \
                sum[r][0] = PRODUCT(sum[r][0], word, left);                                                          \
                sum[r][1] = PRODUCT(sum[r][1], word, right);                                                         \
            }                                                                                                        \
        }                                                                                                            \
        _Pragma("GCC unroll 2") for (int half = 0; half < 2; half++) {                                               \
            const __m512 b = _mm512_loadu_ps(D->raised + p * PANEL + 16 * half);                                     \
            const __m512 length = _mm512_loadu_ps(bounds + 16 * half);                                               \
            const __m512 lost = _mm512_loadu_ps(bounds + PANEL + 16 * half);                                         \
            const __m512 step = _mm512_loadu_ps(bounds + 2 * PANEL + 16 * half);                                     \
            _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++) {                                                \
                __m512 u = NUMBER(sum[r][half], w->step[row + r], step, b);                                          \
                u = _mm512_fmadd_ps(_mm512_set1_ps(w->on_length[row + r]), length, u);                               \
                u = _mm512_fmadd_ps(_mm512_set1_ps(w->on_lost[row + r]), lost, u);                                   \
                _mm512_storeu_ps(w->upper + (row + r) * D->padded + p * PANEL + 16 * half, u);                       \
            }                                                                                                        \
        }                                                                                                            \
    }
static inline __attribute__((always_inline)) __m512i fours(__m512i sum, __m512i one, __m512i other) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(one), "v"(other)); /* GCC 12 keeps few sums of the intrinsic's in registers */
    return sum;
}
#define ZERO(from) _mm512_setzero_ps()
#define PAIRS(sum, one, other) _mm512_dpbf16_ps(sum, (__m512bh)(one), (__m512bh)(other))
#define PLUS(sum, mine, step, b) _mm512_add_ps(sum, b)
#define STEPS(sum, mine, step, b) _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(mine)), step, b)
TILE(tile_pairs, __m512, ZERO, PAIRS, PLUS)
TILE(tile_bytes, __m512i, _mm512_loadu_si512, fours, STEPS)

/* Products of one row with four others: the same bits for a row whichever three it comes with. */
void dot_four(const float *x, const float *const *rows, i64 d, float *products) {
    __m512 sum[4][2];
    for (int r = 0; r < 4; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    i64 at = 0;
    for (; d - at >= 32; at += 32) {
        const __m512 left = _mm512_loadu_ps(x + at), right = _mm512_loadu_ps(x + at + 16);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            sum[r][0] = _mm512_fmadd_ps(left, _mm512_loadu_ps(rows[r] + at), sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(right, _mm512_loadu_ps(rows[r] + at + 16), sum[r][1]);
        }
    }
    for (int half = 0; at < d; at += 16, half = 1) {
        const __mmask16 here = at + 16 <= d ? 0xffff : (1u << (d - at)) - 1;
        const __m512 v = _mm512_maskz_loadu_ps(here, x + at);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
            sum[r][half] = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(here, rows[r] + at), sum[r][half]);
    }
    __m128 quarter[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        const __m512 whole = _mm512_add_ps(sum[r][0], sum[r][1]);
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(whole), _mm512_extractf32x8_ps(whole, 1));
        quarter[r] = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    }
    _MM_TRANSPOSE4_PS(quarter[0], quarter[1], quarter[2], quarter[3]);
    _mm_storeu_ps(products, _mm_add_ps(_mm_add_ps(quarter[0], quarter[2]), _mm_add_ps(quarter[1], quarter[3])));
}

/* Entries of n that reach a threshold, in order: which, and their values. Both lists may be overwritten up to 16 beyond. */
static i64 reaching(const float *x, i64 n, float threshold, int32_t *list, float *values) {
    const __m512i step = _mm512_set1_epi32(16);
    __m512i here = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    i64 m = 0;
    for (i64 at = 0; at < n; at += 16, here = _mm512_add_epi32(here, step)) {
        const __mmask16 valid = at + 16 <= n ? 0xffff : (1u << (n - at)) - 1;
        const __m512 v = _mm512_maskz_loadu_ps(valid, x + at);
        const __mmask16 found = _mm512_mask_cmp_ps_mask(valid, v, _mm512_set1_ps(threshold), _CMP_GE_OQ);
        _mm512_storeu_si512(list + m, _mm512_maskz_compress_epi32(found, here));
        _mm512_storeu_ps(values + m, _mm512_maskz_compress_ps(found, v));
        m += _mm_popcnt_u32(found);
    }
    return m;
}

/* How many of n entries are larger than each, counted against all at once in so many registers: the mask of the k largest,
 * or of more where equals lie on both sides of the k-th. */
static inline __attribute__((always_inline)) uint64_t leading(const float *x, i64 n, i64 k, const int registers) {
    __m512 v[4];
    __m512i larger[4];
    for (int r = 0; r < registers; r++) v[r] = _mm512_loadu_ps(x + 16 * r), larger[r] = _mm512_setzero_si512();
    for (i64 j = 0; j < n; j++) {
        const __m512 one = _mm512_set1_ps(x[j]);
        for (int r = 0; r < registers; r++)
            larger[r] = _mm512_mask_add_epi32(larger[r], _mm512_cmp_ps_mask(one, v[r], _CMP_GT_OQ), larger[r], _mm512_set1_epi32(1));
    }
    uint64_t found = 0;
    for (int r = 0; r < registers; r++)
        found |= (uint64_t)_mm512_cmplt_epi32_mask(larger[r], _mm512_set1_epi32((int)k)) << 16 * r;
    return n < 64 ? found & ((1ull << n) - 1) : found;
}

/* The k largest of n entries, as select_row finds them, for n so few that a pass over them takes no time. There is room
 * for 16 more entries after them, and for 8 after the k. */
void select_few(float *x, i64 n, i64 k, i64 *chosen) {
    float rest = NAN;
    if (n == k) {
        for (i64 j = 0; j < n; j++) chosen[j] = j;
        return;
    }
    _mm512_storeu_ps(x + n, _mm512_set1_ps(-INFINITY));
    if (n <= 64) {
        const uint64_t found = n <= 16 ? leading(x, n, k, 1) : n <= 32 ? leading(x, n, k, 2) : n <= 48 ? leading(x, n, k, 3)
                                                                                            : leading(x, n, k, 4);
        if (_mm_popcnt_u64(found) == k) {
            __m512i here = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
            for (i64 at = 0, m = 0; at < n; at += 8, here = _mm512_add_epi64(here, _mm512_set1_epi64(8))) {
                const __mmask8 some = (__mmask8)(found >> at);
                _mm512_storeu_si512(chosen + m, _mm512_maskz_compress_epi64(some, here));
                m += _mm_popcnt_u32(some);
            }
        } else select_row(x, n, k, chosen, &rest); /* equals */
        return;
    }
    __m512 least = _mm512_set1_ps(INFINITY), most = _mm512_set1_ps(-INFINITY);
    for (i64 at = 0; at < n; at += 16) {
        const __m512 v = _mm512_loadu_ps(x + at);
        most = _mm512_max_ps(most, v);
        least = _mm512_mask_min_ps(least, n - at < 16 ? (1u << (n - at)) - 1 : 0xffff, least, v);
    }
    float low = _mm512_reduce_min_ps(least), high = _mm512_reduce_max_ps(most);
    i64 at_low = n, at_high = 0;
    for (int turn = 0; turn < 40; turn++) { /* more than k entries are >= low, fewer are > high */
        const float step = turn % 3 == 2 ? 0.5f : ((float)(at_low - k) + 0.5f) / (float)(at_low - at_high + 1);
        const float middle = low + (high - low) * step;
        if (!(middle > low && middle < high)) break;
        const __m512 threshold = _mm512_set1_ps(middle);
        i64 count = 0;
        for (i64 at = 0; at < n; at += 16)
            count += _mm_popcnt_u32(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + at), threshold, _CMP_GT_OQ));
        if (count == k) {
            const __m512i eight = _mm512_set1_epi64(8);
            __m512i here = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
            i64 m = 0;
            for (i64 at = 0; at < n; at += 8, here = _mm512_add_epi64(here, eight)) {
                const __mmask8 found = _mm256_cmp_ps_mask(_mm256_loadu_ps(x + at), _mm512_castps512_ps256(threshold), _CMP_GT_OQ);
                _mm512_storeu_si512(chosen + m, _mm512_maskz_compress_epi64(found, here));
                m += _mm_popcnt_u32(found);
            }
            return;
        }
        if (count > k) low = middle, at_low = count;
        else high = middle, at_high = count;
    }
    select_row(x, n, k, chosen, &rest); /* equals */
}

static float largest(float a, float b) { return a >= b ? a : b; } /* b where one is not a number */

dictionary *dictionary_new(const float *rows, const float *bias, const uint32_t *panels, const float *bounds, int bytes,
                           i64 f, i64 d) {
    dictionary *D = malloc(sizeof(dictionary));
    const i64 padded = (f + PANEL - 1) / PANEL * PANEL;
    D->panels = panels, D->rows = rows, D->bias = bias, D->f = f, D->d = d, D->padded = padded;
    D->bytes = bytes, D->used = words_of(d, bytes), D->words = padded_words_of(d, bytes);
    D->stride = D->words + (D->words / 16 % 2 ? 0 : 16); /* an odd number of cache lines: rows share no set */
    const i64 fit = HELD / (ROWS * padded * (i64)sizeof(float));
    D->block = ROWS * (fit < 1 ? 1 : fit > 4 ? 4 : fit);
    D->bounds = calloc(4 * padded, sizeof(float)), D->raised = calloc(padded, sizeof(float));
    D->slack = calloc(padded, sizeof(float));
    D->longest = D->most_lost = D->most_raised = 0;
    int sound = 1;
    for (i64 i = 0; i < f; i++) {
        const float b = bias ? bias[i] : 0, length = bounds[4 * i], lost = bounds[4 * i + 1];
        for (int c = 0; c < 4; c++) memcpy(D->bounds + (i / PANEL * 4 + c) * PANEL + i % PANEL, bounds + 4 * i + c, 4);
        D->slack[i] = 0x1p-21f * fabsf(b) + (float)d * 0x1p-124f; /* of the bias's sum; of what underflows */
        D->raised[i] = b + D->slack[i];
        sound &= isfinite(b) && isfinite(length) && isfinite(lost);
        D->longest = largest(length, D->longest), D->most_lost = largest(lost, D->most_lost);
        D->most_raised = largest(fabsf(b), D->most_raised);
    }
    if (!sound) D->longest = NAN;
    return D;
}

i64 dictionary_block(const dictionary *D) { return D->block; }

void dictionary_free(dictionary *D) {
    free(D->bounds), free(D->raised), free(D->slack), free(D);
}

workspace *workspace_new(const dictionary *D) {
    workspace *w = malloc(sizeof(workspace));
    w->rounded = malloc(D->block * D->stride * sizeof(uint32_t));
    w->upper = malloc(D->block * D->padded * sizeof(float));
    w->on_length = malloc(4 * D->block * sizeof(float)), w->on_lost = w->on_length + D->block;
    w->length = w->on_lost + D->block, w->step = w->length + D->block;
    w->score = malloc((2 * D->padded + 32) * sizeof(float)), w->among = w->score + D->padded + 16;
    w->list = malloc(3 * (D->padded + 16) * sizeof(int32_t));
    w->picked = w->list + D->padded + 16, w->place = w->picked + D->padded + 16;
    w->chosen = malloc((D->padded + 16) * sizeof(i64));
    return w;
}

void workspace_free(workspace *w) {
    free(w->rounded), free(w->upper), free(w->on_length), free(w->score), free(w->list), free(w->chosen), free(w);
}

/* Upper bounds of every entry of n <= D->block rows, `which` of x or the first: into w->upper (n, padded). */
void bound_rows(const dictionary *D, workspace *w, const float *x, const i64 *which, i64 n) {
    /* Roundings of d sums in the product, of d / 32 + 8 in either of two products in float32, and of the bounds. */
    const float rounding = 1.01f * 0x1p-24f * (float)(D->d + D->d / 16 + 64);
    const i64 whole = (n + ROWS - 1) / ROWS * ROWS;
    for (i64 r = 0; r < whole; r++) {
        if (r >= n) {
            memset(w->rounded + r * D->stride, 0, D->words * sizeof(uint32_t));
            w->on_length[r] = w->on_lost[r] = w->step[r] = 0;
            continue;
        }
        const float *row = x + (which ? which[r] : r) * D->d;
        uint32_t *to = w->rounded + r * D->stride;
        const bound b = D->bytes ? to_bytes(row, D->d, D->words, 0, to) : to_pairs(row, D->d, D->words, to);
        w->length[r] = b.length, w->step[r] = b.step;
        w->on_length[r] = (b.lost + rounding * (b.length + b.lost)) * 1.00001f;
        w->on_lost[r] = (b.length + b.lost) * (1 + rounding) * 1.00001f;
    }
    for (i64 p = 0; p < D->padded / PANEL; p++)
        for (i64 r = 0; r < whole; r += ROWS) (D->bytes ? tile_bytes : tile_pairs)(D, w, r, p);
}

/* Whether a row's bounds are finite, far from where sums overflow. */
int bound_holds(const dictionary *D, const workspace *w, i64 r) {
    return w->length[r] * D->longest + w->on_length[r] * D->longest + w->on_lost[r] * D->most_lost + D->most_raised < 1e37f;
}

/* Scores of n entries of a row in float32: product and bias. */
void score(const dictionary *D, const float *x, const int32_t *list, i64 n, float *scores) {
    for (i64 j = 0; j < n; j += 4) {
        const float *rows[4];
        float products[4];
        for (i64 c = 0; c < 4; c++) rows[c] = D->rows + list[j + c < n ? j + c : n - 1] * D->d;
        dot_four(x, rows, D->d, products);
        for (i64 c = 0; c < 4 && j + c < n; c++) scores[j + c] = products[c] + (D->bias ? D->bias[list[j + c]] : 0);
    }
}

/* The lower bound of an entry whose upper bound is given. */
static float lower_bound(const dictionary *D, const workspace *w, i64 r, i64 i, float upper) {
    const float *bounds = D->bounds + i / PANEL * 4 * PANEL + i % PANEL;
    return upper - 2.0001f * (w->on_length[r] * bounds[0] + w->on_lost[r] * bounds[PANEL] + D->slack[i]);
}

/* The k largest scores of row r, whose vector is x, and their entries, in order; 0 if that cannot be told, or takes the scores
 * of more than `limit`. Scored first are the k that look largest: their least score is t. `share` is where to look for
 * them, t by the row's length, and is replaced; what is found does not depend on it. */
static int find_row(const dictionary *D, workspace *w, i64 r, const float *x, i64 k, i64 limit, float *share, float *values,
                    i64 *indices) {
    const float *upper = w->upper + r * D->padded;
    if (!bound_holds(D, w, r)) return 0;
    float from = *share * w->length[r], t = INFINITY;
    i64 n = 0;
    for (int turn = 0; turn < 4 && from > 0 && (n < k || n > limit); turn++) {
        if (turn) from *= n < k ? 0.75f : 1.2f;
        n = reaching(upper, D->f, from, w->list, w->among);
    }
    if (n < k || n > limit) from = -INFINITY, n = reaching(upper, D->f, from, w->list, w->among);
    if (n < k) return 0; /* not a number */
    select_few(w->among, n, k, w->chosen);
    for (i64 j = 0; j < k; j++) w->picked[j] = w->list[w->chosen[j]];
    score(D, x, w->picked, k, values);
    for (i64 j = 0; j < k; j++) t = values[j] < t ? values[j] : t;
    *share = 0.9f * *share + 0.094f * t / w->length[r];
    if (t < from) n = reaching(upper, D->f, t, w->list, w->among), select_few(w->among, n, k, w->chosen);
    for (i64 j = 0; j < k; j++) w->among[w->chosen[j]] = -INFINITY;
    const i64 more = reaching(w->among, n, t, w->place, w->score);
    if (k + more > limit) return 0;
    for (i64 j = 0; j < more; j++) w->picked[k + j] = w->list[w->place[j]];
    score(D, x, w->picked + k, more, w->score);
    /* Scores in the order of the features. Entries that are not scored have bounds below t. */
    for (i64 j = 0; j < k; j++) w->among[w->chosen[j]] = values[j];
    for (i64 j = 0; j < more; j++) w->among[w->place[j]] = w->score[j];
    const i64 left = reaching(w->among, n, t, w->place, w->score);
    select_few(w->score, left, k, w->chosen);
    for (i64 j = 0; j < k; j++) {
        values[j] = w->score[w->chosen[j]];
        indices[j] = w->list[w->place[w->chosen[j]]];
    }
    return 1;
}

/* The largest score of row r, whose vector is x, and its entry (among equals the first); a row without a certificate is
 * scored whole. Beside it the k entries that look largest: which, bounds on their scores, and a bound on all others. */
i64 nearest_row(const dictionary *D, workspace *w, i64 r, const float *x, i64 k, float *share, float *found, int32_t *near,
                float *above, float *rest) {
    const float *upper = w->upper + r * D->padded;
    i64 n = 0, best = 0;
    float from = *share * w->length[r], lowest = -INFINITY;
    const int holds = bound_holds(D, w, r);
    *rest = INFINITY;
    for (i64 j = 0; j < k; j++) near[j] = 0, above[j] = INFINITY;
    if (holds) {
        n = from > 0 ? reaching(upper, D->f, from, w->list, w->among) : 0;
        if (n < k) from = -INFINITY, n = reaching(upper, D->f, from, w->list, w->among);
        select_few(w->among, n, k, w->chosen);
        *rest = from;
        float least = INFINITY;
        for (i64 j = 0, next = 0; j < n; j++) {
            if (next < k && w->chosen[next] == j) {
                near[next] = w->list[j], above[next] = w->among[j];
                least = above[next] < least ? above[next] : least, next++;
                lowest = largest(lower_bound(D, w, r, w->list[j], w->among[j]), lowest);
            } else *rest = largest(w->among[j], *rest);
        }
        *share = 0.85f * least / w->length[r];
    }
    if (holds && *rest < lowest) n = k, memcpy(w->list, near, k * sizeof(int32_t));
    else if (holds) n = reaching(upper, D->f, lowest, w->list, w->among);
    else for (n = 0; n < D->f; n++) w->list[n] = (int32_t)n;
    score(D, x, w->list, n, w->score);
    for (i64 j = 1; j < n; j++) /* not a number wins, so that it is noticed */
        if (w->score[j] > w->score[best] || (w->score[j] != w->score[j] && w->score[best] == w->score[best])) best = j;
    *found = w->score[best];
    return w->list[best];
}

/* The k largest pre-activations of every row: values and indices (rows, k), in the order of the features; among equals
 * the first. Rows with more than `limit` candidates, or without a certificate, are marked in `failed` and left; in bytes
 * all others too, once more than a sixth of those before have been. With `dy`, everything that error_rows of native.c gives too. */
void search_rows(const float *x, const float *weight, const float *bias, const uint32_t *panels, const float *bounds,
                 int bytes, const float *scale, i64 rows, i64 f, i64 k, i64 d, i64 limit, int relu, float factor, float *values,
                 i64 *indices, uint8_t *failed, float *dy, float *error, float *along, float *d_hidden, int threads) {
    dictionary *D = dictionary_new(weight, bias, panels, bounds, bytes, f, d);
    const i64 tiles = (rows + ROWS - 1) / ROWS;
#pragma omp parallel num_threads(threads)
    {
        workspace *w = workspace_new(D);
        float share = 0, *scaled = malloc(k * sizeof(float));
#pragma omp for schedule(static)
        for (i64 part = 0; part < threads; part++) {
            const i64 end = tiles * (part + 1) / threads * ROWS < rows ? tiles * (part + 1) / threads * ROWS : rows;
            i64 start = tiles * part / threads * ROWS, n = ROWS, lost = 0;
            for (i64 done = 0; start < end; start += n, n = D->block) {
                n = end - start < n ? end - start : n;
                if (bytes && 6 * lost > done) {
                    memset(failed + start, 1, end - start);
                    break;
                }
                bound_rows(D, w, x + start * d, NULL, n);
                for (i64 r = 0; r < n; r++, done++) {
                    const i64 at = start + r;
                    failed[at] = !find_row(D, w, r, x + at * d, k, limit, &share, values + at * k, indices + at * k);
                    lost += failed[at];
                    if (dy && !failed[at])
                        error_row(x + at * d, weight, scale, indices + at * k, values + at * k, k, d, relu, factor, scaled,
                                  dy + at * d, error + at, along + at * k, d_hidden + at * k);
                }
            }
        }
        workspace_free(w), free(scaled);
    }
    dictionary_free(D);
}
#endif
