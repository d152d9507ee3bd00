/* Synthetic data on a CPU: random numbers as PyTorch's generator gives them, and the samples made of them.
 *
 * ../../data/synthetic.py says what is drawn and holds the plain form that this must equal; compiled.py builds this file.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
void select_row(const float *x, i64 n, i64 k, i64 *index, float *guess); /* native.c */
void add_rows(float *y, const float *table, const i64 *which, i64 stride, const float *coefficient, i64 n, i64 d);
#ifdef __AVX512BF16__
void select_few(float *x, i64 n, i64 k, i64 *chosen); /* native_search.c */
#else
static void select_few(float *x, i64 n, i64 k, i64 *chosen) {
    float rest = NAN;
    select_row(x, n, k, chosen, &rest);
}
#endif

/* The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), whose numbers come in blocks. */
#define BLOCK 624
#define AHEAD 397
typedef struct { uint32_t state[BLOCK + 1], ready[BLOCK]; int used; } twister;

static void twister_seed(twister *T, uint32_t seed) {
    T->state[0] = seed;
    for (uint32_t i = 1; i < BLOCK; i++) T->state[i] = 1812433253u * (T->state[i - 1] ^ T->state[i - 1] >> 30) + i;
    T->used = BLOCK;
}

#define TWIST(FROM)                                                                         \
    {                                                                                       \
        const uint32_t both = (s[i] & 0x80000000u) | (s[i + 1] & 0x7fffffffu);              \
        s[i] = s[FROM] ^ both >> 1 ^ (0x9908b0dfu & -(both & 1));                           \
    }
static void twister_advance(twister *T) {
    uint32_t *s = T->state;
    for (int i = 0; i < BLOCK - AHEAD; i++) TWIST(i + AHEAD)
    s[BLOCK] = s[0];
    for (int i = BLOCK - AHEAD; i < BLOCK; i++) TWIST(i - (BLOCK - AHEAD))
    for (int i = 0; i < BLOCK; i++) {
        uint32_t y = s[i];
        y ^= y >> 11, y ^= y << 7 & 0x9d2c5680u, y ^= y << 15 & 0xefc60000u;
        T->ready[i] = y ^ y >> 18;
    }
    T->used = 0;
}

/* The next numbers of a generator, at most n of them and at least one: their count. */
static i64 twister_next(twister *T, i64 n, const uint32_t **numbers) {
    if (T->used == BLOCK) twister_advance(T);
    const i64 some = n < BLOCK - T->used ? n : BLOCK - T->used;
    *numbers = T->ready + T->used, T->used += (int)some;
    return some;
}

static void uniform(twister *T, i64 n, float *x) {
    const uint32_t *numbers;
    for (i64 at = 0, some; at < n; at += some) {
        some = twister_next(T, n - at, &numbers);
        for (i64 i = 0; i < some; i++) x[at + i] = (float)(int32_t)(numbers[i] & 0xffffff) * 0x1p-24f;
    }
}

/* What torch.randint(groups, (n,)) and twice torch.rand(n, width) draw, for each shard by a generator of its own: shard s of
 * `shards`, of seed seeds[s], has the draws edges[s] to edges[s + 1]. With groups = 0 none are drawn. */
void draw_shards(const i64 *seeds, const i64 *edges, i64 shards, i64 groups, i64 width, i64 *group, float *first,
                 float *second, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 s = 0; s < shards; s++) {
        twister T;
        const uint32_t *numbers;
        const i64 from = edges[s], n = edges[s + 1] - from;
        twister_seed(&T, (uint32_t)seeds[s]);
        for (i64 at = 0, some; groups && at < n; at += some) {
            some = twister_next(&T, n - at, &numbers);
            for (i64 i = 0; i < some; i++) group[from + at + i] = (i64)(numbers[i] % (uint32_t)groups);
        }
        uniform(&T, n * width, first + from * width);
        uniform(&T, n * width, second + from * width);
    }
}

/* Sparse sums of rows, y (n, d): each sample adds `parts` times k of the `width` rows of one group of a table (group, width, d).
 * Which k: those with the largest time / odds, `odds` being (group, width), and none less than `never`. Sample r consists of
 * the draws order[r], order[n + r] and so on; `group` says of which group a draw is, `times` and `coefficient` are (draw, width). */
void drawn_sums(const float *table, const float *odds, const i64 *group, const i64 *order, const float *times,
                const float *coefficient, i64 n, i64 parts, i64 width, i64 k, i64 d, float never, float *y, int threads) {
#pragma omp parallel num_threads(threads)
    {
        float *chosen = malloc((k + width + 16) * sizeof(float)), *race = chosen + k;
        i64 *first = malloc((k + 8) * sizeof(i64));
#pragma omp for schedule(static)
        for (i64 r = 0; r < n; r++) {
            memset(y + r * d, 0, d * sizeof(float));
            for (i64 p = 0; p < parts; p++) {
                const i64 draw = order[p * n + r], start = group[draw] * width;
                const i64 soon = order[p * n + (r + 4 < n ? r + 4 : r)] * width; /* draws lie anywhere */
                for (i64 i = 0; i < width; i += 16) __builtin_prefetch(times + soon + i), __builtin_prefetch(coefficient + soon + i);
                for (i64 i = 0; i < width; i++) {
                    const float time = times[draw * width + i] / odds[start + i];
                    race[i] = time < never ? never : time;
                }
                select_few(race, width, k, first);
                for (i64 j = 0; j < k; j++) chosen[j] = coefficient[draw * width + first[j]];
                add_rows(y + r * d, table + start * d, first, d, chosen, k, d);
            }
        }
        free(chosen), free(first);
    }
}
