/*
 * The kernel for small windows: candidates from lists (kernel/lists.h), their logits by the
 * definition, and only of those that may count. Sliding sums cost the same for every P, but
 * compute every pair; here a pair costs P² products, four to an instruction, but most pairs are
 * left after a third of them, and flat patches come once. Where that does not pay, or the
 * integers below are too coarse, `otherwise` takes over: the sliding sums.
 *
 * Numbers. The candidates are bytes v = u − 128, y = (v + ½)/127.5. The noisy image is in integers
 * xi + 2^23 = hi·2^16 + mid·2^8 + lo of three digits, none negative. D, the distance of a logit
 * from its query's floor, counts 2^−k log2 units, 2^(8 − e) times those of xi, e = head->shift:
 *
 *     D = (⟨hi, v⟩·2^8 + ⟨mid, v⟩ + ⟨lo, v⟩/2^8)·2^e − bias − floor
 *
 * modulo 2^32 and exact but for the last bits of lo; choose_units() makes it fit. The 2^23 is part
 * of the bias; the ½ is the same for all candidates of a query and cancels in the softmax.
 *
 * One query, a chunk of up to 32 pairs of vectors of 16 candidates:
 *
 *     filter()   H = ⟨hi, v⟩ − bias/2^(8 + e) of every vector, with mid taken as 128. What is
 *                missing is at most margin = Σ max over v of (mid − 128 + lo/2^8)·v: a pair of
 *                vectors with no H above (floor/2^e − margin)/2^8 is skipped. The others get a bit in a word.
 *     weigh()    goes through the bits: the other two digits, D, and the softmax
 *                (kernel/softmax.h).
 *
 * Layout, W = ⌈values of a window / 4⌉ words; a word holds four values:
 *   query  header; pixel int32 [queries]; margin int32 [queries]; x int32 [queries][3][W]
 *   group  lists (kernel/lists.h); y int32 [vectors][W][16]; centres float [vectors][C][16]:
 *          u − 127.5
 *   work   biases int32 [2][vectors][16], negated: for H, and what D lacks then; H int32
 *          [CHUNK][16]
 * A chunk's y, at most CHUNK_BYTES, stays in the first cache while all queries go by.
 */
#include <stdint.h>
#include <string.h>

#include "core/kernel/x86/avx512_ops.h"
#include "core/kernel/lists_prepare.h"

#define UNROLL _Pragma("GCC unroll 16")

/* A chunk of one class's candidates, against which its queries go one by one. */
struct chunk {
    const struct els_sweep *s;
    const struct query_header *head;
    int words, vectors;
    const int32_t *y;          /* [vectors][W][16] */
    const int32_t *high, *low; /* [vectors][16] */
    const float *centre;       /* [vectors][C][16] */
    const float *log_count;    /* [vectors][16] */
    int32_t *filtered;         /* [CHUNK][16] */
    struct els_lanes *lanes;
};

/* Four products of a byte and a signed byte, added to each lane. */
INLINE vi v_dot_bytes(vi sum, vi bytes, vi signed_bytes)
{
    return _mm512_dpbusd_epi32(sum, bytes, signed_bytes);
}

/* H of n pairs from vector `at` on; a bit for each pair in which any is above `least`. */
INLINE uint32_t filter_pairs(const struct chunk *k, int at, int n, int words, const int32_t *x,
                             vi least)
{
    const int32_t *y = k->y + (ptrdiff_t)at * words * LANES;
    vi H[2 * PAIR];
    uint32_t alive = 0;

    UNROLL
    for (int i = 0; i < n * PAIR; i++)
        H[i] = v_load(k->high + (at + i) * LANES);
    UNROLL
    for (int w = 0; w < words; w++) {
        vi hi = v_set_int(x[w]);

        UNROLL
        for (int i = 0; i < n * PAIR; i++)
            H[i] = v_dot_bytes(H[i], hi, v_load(y + (i * words + w) * LANES));
    }
    UNROLL
    for (int i = 0; i < n * PAIR; i++)
        v_store(k->filtered + (at + i) * LANES, H[i]);
    UNROLL
    for (int i = 0; i < n; i++)
        alive |= (uint32_t)v_above(v_max_int(H[PAIR * i], H[PAIR * i + 1]), least) << i;
    return alive;
}

/* The pairs of the chunk in which any candidate may count. */
INLINE uint32_t filter(const struct chunk *k, int words, const int32_t *x, int64_t floor,
                       int32_t margin)
{
    int e = k->head->shift;
    int64_t least_D = floor - (int64_t)margin * (1 << e);
    vi least = v_set_int((int32_t)(least_D >> (DIGIT_BITS + e)));
    uint32_t alive = 0;
    int pairs = k->vectors / PAIR, at = 0;

    for (; at + 2 <= pairs; at += 2)
        alive |= filter_pairs(k, PAIR * at, 2, words, x, least) << at;
    if (at < pairs)
        alive |= filter_pairs(k, PAIR * at, 1, words, x, least) << at;
    return alive;
}

/* D of a pair; what is below the floor counts as on it. */
INLINE void distances(const struct chunk *k, int at, int words, const int32_t *x, int64_t floor,
                      vi *D)
{
    const int32_t *y = k->y + (ptrdiff_t)at * words * LANES;
    const vi f = v_set_int((int32_t)floor), zero = v_set_int(0);
    const vi e = v_set_int(k->head->shift), up = v_set_int(DIGIT_BITS + k->head->shift);
    const vi down = v_set_int(DIGIT_BITS - k->head->shift);
    vi mid[PAIR], lo[PAIR];

    UNROLL
    for (int i = 0; i < PAIR; i++) {
        mid[i] = lo[i] = zero;
    }
    UNROLL
    for (int w = 0; w < words; w++)
        for (int i = 0; i < PAIR; i++) {
            vi v = v_load(y + (i * words + w) * LANES);

            mid[i] = v_dot_bytes(mid[i], v_set_int(x[words + w]), v);
            lo[i] = v_dot_bytes(lo[i], v_set_int(x[2 * words + w]), v);
        }
    UNROLL
    for (int i = 0; i < PAIR; i++) {
        vi low = v_sub(v_load(k->low + (at + i) * LANES), f);

        D[i] = v_shift_left(v_load(k->filtered + (at + i) * LANES), up);
        D[i] = v_add_int(D[i], v_add_int(v_shift_left(mid[i], e), v_shift_right(lo[i], down)));
        D[i] = v_max_int(v_add_int(D[i], low), zero);
    }
}

/* Raises the floor of query q until no D is too high; its sums are in memory. Rare. */
static void settle(const struct chunk *k, int at, const int32_t *x, int q, vi *D)
{
    int limit = 1 << (ALIVE_BITS + k->head->fraction), top;

    for (;;) {
        int32_t value[PAIR * LANES];

        top = 0;
        memcpy(value, D, sizeof(value));
        for (int l = 0; l < PAIR * LANES; l++)
            top = value[l] > top ? value[l] : top;
        if (top < limit)
            return;
        raise_floor(k->s, k->head, &k->lanes->m[q], &k->lanes->floor[q],
                    k->lanes->sum + (ptrdiff_t)q * k->s->slots * LANES, top);
        distances(k, at, k->words, x, k->lanes->floor[q], D);
    }
}

/* The sums of one query while they are in registers: s, v, u. */
struct sums {
    vf total, mean[ELS_MAX_CHANNELS], entropy;
};

INLINE struct sums load_sums(const float *sum, int channels, int entropy)
{
    struct sums out;

    out.total = v_load_float(sum);
    UNROLL
    for (int c = 0; c < ELS_MAX_CHANNELS; c++)
        out.mean[c] = c < channels ? v_load_float(sum + (1 + c) * LANES) : v_set(0);
    out.entropy = entropy ? v_load_float(sum + (1 + channels) * LANES) : v_set(0);
    return out;
}

INLINE void store_sums(const struct sums *in, int channels, int entropy, float *sum)
{
    v_store_float(sum, in->total);
    UNROLL
    for (int c = 0; c < channels; c++)
        v_store_float(sum + (1 + c) * LANES, in->mean[c]);
    if (entropy)
        v_store_float(sum + (1 + channels) * LANES, in->entropy);
}

INLINE void add_weights(const struct chunk *k, int at, int channels, int entropy, vi D,
                        struct sums *sums)
{
    vf weight = weight_of(v_shift_left(D, v_set_int(23 - k->head->fraction)));

    sums->total = v_add(sums->total, weight);
    UNROLL
    for (int c = 0; c < channels; c++)
        sums->mean[c] = v_fma(weight, v_load_float(k->centre + (at * channels + c) * LANES),
                              sums->mean[c]);
    if (entropy) {
        /* ln of the weight, which a flat patch shares with its equals. */
        vf l = v_fma(v_to_float(D), v_set((float)k->head->unit), v_set((float)M_LN2));

        l = v_fma(v_load_float(k->log_count + at * LANES), v_set(-1), l);
        sums->entropy = v_fma(weight, l, sums->entropy);
    }
}

/* The softmax of query q over the pairs whose bits are set. */
INLINE void weigh(const struct chunk *k, int words, int channels, int entropy, const int32_t *x,
                  int q, uint32_t alive)
{
    int too_high = ~((1 << (ALIVE_BITS + k->head->fraction)) - 1);
    float *sum = k->lanes->sum + (ptrdiff_t)q * k->s->slots * LANES;
    struct sums sums = load_sums(sum, channels, entropy);

    for (; alive; alive &= alive - 1) {
        int at = PAIR * __builtin_ctz(alive);
        vi D[PAIR];

        distances(k, at, words, x, k->lanes->floor[q], D);
        if (v_any(v_or(D[0], D[1]), too_high)) {
            store_sums(&sums, channels, entropy, sum);
            settle(k, at, x, q, D);
            sums = load_sums(sum, channels, entropy);
        }
        UNROLL
        for (int i = 0; i < PAIR; i++)
            add_weights(k, at + i, channels, entropy, D[i], &sums);
    }
    store_sums(&sums, channels, entropy, sum);
}

/* The queries of a class against a chunk. */
struct queries {
    const int32_t *pixel, *margin, *x; /* [count], [count], [count][3][W] */
    int count;
};

INLINE void sweep_chunk(const struct chunk *k, const struct queries *all, int words, int channels,
                        int entropy)
{
    const int32_t *x = all->x;

    for (int n = 0; n < all->count; n++, x += DIGITS * words) {
        int q = in_band(k->s, all->pixel[n]);
        uint32_t alive =
            q < 0 ? 0 : filter(k, words, x, k->lanes->floor[q], all->margin[n]);

        if (alive)
            weigh(k, words, channels, entropy, x, q, alive);
    }
}

/* Words and channels become constants here: grey with P = 3 and 5, colour with 3. */
static __attribute__((noinline)) void sweep_3_1(const struct chunk *k, const struct queries *all)
{
    sweep_chunk(k, all, 3, 1, 0);
}

static __attribute__((noinline)) void sweep_7_1(const struct chunk *k, const struct queries *all)
{
    sweep_chunk(k, all, 7, 1, 0);
}

static __attribute__((noinline)) void sweep_7_3(const struct chunk *k, const struct queries *all)
{
    sweep_chunk(k, all, 7, 3, 0);
}

static __attribute__((noinline)) void sweep_any(const struct chunk *k, const struct queries *all)
{
    sweep_chunk(k, all, k->words, k->s->shape.c, k->s->entropy);
}

static void sweep_variant(const struct chunk *k, const struct queries *all)
{
    int c = k->s->entropy ? 0 : k->s->shape.c;

    if (k->words == 3 && c == 1)
        sweep_3_1(k, all);
    else if (k->words == 7 && c == 1)
        sweep_7_1(k, all);
    else if (k->words == 7 && c == 3)
        sweep_7_3(k, all);
    else
        sweep_any(k, all);
}

/* So many that their y takes half of the first cache. */
static int chunk_vectors(const struct els_sweep *s)
{
    int fit = CHUNK_BYTES / (words_of(s) * LANES * (int)sizeof(int32_t)) / PAIR * PAIR;

    return fit < CHUNK ? fit : CHUNK;
}

/* A step is a class of rows. */
static int steps(const struct els_sweep *s)
{
    struct els_layout o;

    els_layout_of(s, &o);
    return o.num_rows;
}

static void sweep(const struct els_sweep *s, int step, const void *query, const void *group,
                  void *work, struct els_lanes *lanes)
{
    struct els_layout o;
    struct els_lists lists;
    struct els_class_at c;
    struct work w;
    int size = chunk_vectors(s);

    els_layout_of(s, &o);
    els_lists_at(&o, (void *)group, &lists);
    w = work_of(&o, work);
    for (els_first(&o, &c); els_more(&o, &c) && c.row <= step; els_next(&o, &c))
        for (int n = 0; c.row == step && n < lists.vectors[c.index]; n += size) {
            ptrdiff_t at = c.first_vector + n;
            int left = lists.vectors[c.index] - n;
            struct chunk k = {
                .s = s,
                .head = query,
                .words = words_of(s),
                .vectors = left < size ? left : size,
                .y = group_y(&o, group) + at * words_of(s) * LANES,
                .high = w.high + at * LANES,
                .low = w.low + at * LANES,
                .centre = group_centres(s, &o, group) + at * s->shape.c * LANES,
                .log_count = lists.log_count + at * LANES,
                .filtered = w.filtered,
                .lanes = lanes,
            };
            struct queries all = {
                .pixel = query_pixels(query) + c.first_query,
                .margin = query_margins(&o, query) + c.first_query,
                .x = query_x(&o, query) + (ptrdiff_t)c.first_query * DIGITS * k.words,
                .count = c.queries,
            };

            sweep_variant(&k, &all);
        }
}

const struct els_kernel els_kernel_avx512lists = {
    .name = "avx512lists",
    .lanes = LANES,
    .mixes_images = 1,
    .otherwise = &els_kernel_avx512vnni,
    .usable = usable,
    .accepts = accepts,
    .query_bytes = query_bytes,
    .group_bytes = group_bytes,
    .work_bytes = work_bytes,
    .prepare_query = prepare_query,
    .prepare_group = prepare_group,
    .begin = begin,
    .steps = steps,
    .sweep = sweep,
};
