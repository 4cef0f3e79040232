/*
 * What the list kernel prepares: the noisy image in digits, the candidates of a group in vectors,
 * their biases and the first floors. See kernel/x86/avx512lists.c for the numbers and the layout.
 * Included by it, after its vector operations.
 */
#ifndef ELS_KERNEL_LISTS_PREPARE_H
#define ELS_KERNEL_LISTS_PREPARE_H

#include <math.h>
#include <string.h>

#include "core/kernel/lists.h"
#include "core/kernel/softmax.h"
#include "core/kernel/units.h"

enum {
    PAIR = 2, /* vectors that are kept or skipped together */
    CHUNK = 32 * PAIR,
    CHUNK_BYTES = 24 << 10,
    DIGITS = 3,
    DIGIT_BITS = 8,
    MAX_VALUES = 28,       /* of a window; beyond it, sliding sums are faster */
    MAX_GROUP_BYTES = 8 << 20, /* up to some 70×70 pixels: a group stays below 50 ms */
    MAX_X = 0x7f00,        /* |xi / 2^8| */
    OFFSET = 1 << 23,      /* makes xi positive */
    HALF = 128,            /* of the middle digit's range */
    COPY = 1 << 30,        /* added to the bias of what must not count */
    MOST_EQUAL = 1 << 22,  /* patches in a group: ln of it is the most that folding adds */
};

/*
 * The largest standard error of the difference of two logits, in nats, that rounding x or rounding
 * D may cause; as ONE_PLANE_ERROR of kernel/pair_bits.h.
 */
#define LOGIT_ERROR 4e-5

/* ---- sizes ---- */

static int words_of(const struct els_sweep *s)
{
    return (els_window_values(s) + 3) / 4;
}

static size_t query_bytes(const struct els_sweep *s)
{
    struct els_layout o;

    els_layout_of(s, &o);
    return HEADER_BYTES + (size_t)o.queries * (size_t)(2 + DIGITS * words_of(s)) * sizeof(int32_t);
}

static const int32_t *query_pixels(const void *query)
{
    return (const int32_t *)((const char *)query + HEADER_BYTES);
}

static const int32_t *query_margins(const struct els_layout *o, const void *query)
{
    return query_pixels(query) + o->queries;
}

static const int32_t *query_x(const struct els_layout *o, const void *query)
{
    return query_pixels(query) + 2 * (ptrdiff_t)o->queries;
}

static size_t y_bytes(const struct els_sweep *s, const struct els_layout *o)
{
    return (size_t)o->vectors * (size_t)words_of(s) * LANES * sizeof(int32_t);
}

static size_t group_bytes_of(const struct els_sweep *s, const struct els_layout *o)
{
    return els_lists_bytes(o) + y_bytes(s, o) +
           (size_t)o->vectors * (size_t)s->shape.c * LANES * sizeof(float);
}

static size_t group_bytes(const struct els_sweep *s)
{
    struct els_layout o;

    els_layout_of(s, &o);
    return group_bytes_of(s, &o);
}

static const int32_t *group_y(const struct els_layout *o, const void *group)
{
    return (const int32_t *)((const char *)group + els_lists_bytes(o));
}

static const float *group_centres(const struct els_sweep *s, const struct els_layout *o,
                                  const void *group)
{
    return (const float *)((const char *)group_y(o, group) + y_bytes(s, o));
}

static size_t work_bytes(const struct els_sweep *s)
{
    struct els_layout o;

    els_layout_of(s, &o);
    return ((size_t)o.vectors * 2 + CHUNK) * LANES * sizeof(int32_t);
}

/* ---- what it takes ---- */

static int usable(void)
{
    return els_kernel_avx512vnni.usable();
}

/* The finest unit of D in which x, and the range of all logits, can be held. */
static void choose_units(const struct els_sweep *s, const float *x, struct query_header *head)
{
    double per_one = s->scale / ELS_UNITS_PER_ONE; /* nats per unit of x and of u */
    double alive = ((1 << ALIVE_BITS) + 1) * M_LN2;
    double range = els_logit_range(s, x) + alive + log(MOST_EQUAL);
    int by_x = els_choose_fraction(els_largest(s, x) * per_one, MAX_X, 23);
    int by_range = els_choose_fraction(range, 0x1.fp29, 23), finer = by_range - by_x;

    *head = (struct query_header){
        .fraction = by_range,
        .shift = finer < 0 ? 0 : finer > DIGIT_BITS ? DIGIT_BITS : finer,
    };
    if (head->fraction > by_x + head->shift)
        head->fraction = by_x + head->shift;
    head->unit = ldexp(M_LN2, -head->fraction);
    head->per_one = ldexp(per_one / head->unit, DIGIT_BITS - head->shift);
    head->bias = s->bias / (255.0 * 255.0) / head->unit;
    head->cut = (int64_t)(s->cut / head->unit);
}

static int fine_enough(const struct els_sweep *s, const float *x)
{
    struct query_header head;

    choose_units(s, x, &head);
    return head.unit / sqrt(6.0) <= LOGIT_ERROR &&
           (head.per_one <= 0 || els_logit_error(s, 1 / head.per_one) <= LOGIT_ERROR);
}

static int accepts(const struct els_sweep *s, const float *x)
{
    struct els_layout o;

    return els_bank_info(s->bank)->dtype == ELS_U8 &&
           (s->machine == ELS_MACHINE_ELS || s->machine == ELS_MACHINE_BBELS) &&
           els_window_values(s) <= MAX_VALUES && els_layout_of(s, &o) == 0 &&
           group_bytes_of(s, &o) <= MAX_GROUP_BYTES && fine_enough(s, x);
}

/* ---- the noisy image ---- */

/* The digits of one value into byte `byte` of the query's words; what they add to its margin. */
static double put_digits(int64_t xi, int words, int byte, int32_t *out)
{
    int64_t x = xi + OFFSET;
    uint8_t *bytes = (uint8_t *)out;
    double rest;

    bytes[byte] = (uint8_t)(x >> 2 * DIGIT_BITS);
    bytes[4 * words + byte] = (uint8_t)(x >> DIGIT_BITS);
    bytes[8 * words + byte] = (uint8_t)x;
    rest = bytes[4 * words + byte] - HALF + bytes[8 * words + byte] / 256.0;
    return rest > 0 ? 127 * rest : -128 * rest;
}

/* The window around (i, j) into [3][W]; its margin. */
static int32_t put_window(const struct els_sweep *s, const struct query_header *head,
                          const float *x, int i, int j, int32_t *out)
{
    int h = s->shape.h, w = s->shape.w, v = 0;
    double margin = 0;

    for (int c = 0; c < s->shape.c; c++)
        for (int t = i - s->rh; t <= i + s->rh; t++)
            for (int b = j - s->rw; b <= j + s->rw; b++, v++) {
                int row = els_position(s, t, h), col = els_position(s, b, w);

                if (row >= 0 && col >= 0)
                    margin += put_digits(llrint((double)x[(c * h + row) * w + col] *
                                                head->per_one), words_of(s), v, out);
            }
    /* The bias for H is rounded, too. */
    return (int32_t)ceil(margin) + (1 << DIGIT_BITS);
}

static void prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    struct query_header *head = query;
    struct els_layout o;
    struct els_class_at c;
    int32_t *pixel = (int32_t *)query_pixels(query), *margin, *digits;
    int step = DIGITS * words_of(s);

    els_layout_of(s, &o);
    choose_units(s, x, head);
    margin = (int32_t *)query_margins(&o, query);
    digits = (int32_t *)query_x(&o, query);
    memset(digits, 0, (size_t)o.queries * (size_t)step * sizeof(*digits));
    for (els_first(&o, &c); els_more(&o, &c); els_next(&o, &c)) {
        const struct els_class *rows = &o.rows[c.row], *cols = &o.cols[c.col];

        for (int n = 0; n < c.queries; n++, digits += step) {
            int i = rows->query + n / cols->queries, j = cols->query + n % cols->queries;

            *pixel++ = i * s->shape.w + j;
            *margin++ = put_window(s, head, x, i, j, digits);
        }
    }
}

/* ---- the group ---- */

/* Neighbouring values of a window that lie side by side in a plane: a part of one int32 of y. */
struct piece {
    int word;            /* which int32: values 4·word … 4·word + 3 */
    int32_t offset;      /* from the window's first value */
    int32_t mask, shift; /* of the four bytes there */
};

static int list_pieces(const struct els_sweep *s, const struct els_layout *o, struct piece *piece)
{
    int width = 2 * s->rw + 1, height = 2 * s->rh + 1, values = els_window_values(s), count = 0;

    for (int v = 0, n; v < values; v += n) {
        int b = v % width, t = v / width % height, c = v / width / height, byte = v % 4;

        n = width - b < 4 - byte ? width - b : 4 - byte;
        piece[count++] = (struct piece){
            .word = v / 4,
            .offset = (c * o->plane_h + t) * o->plane_w + b,
            .mask = (int32_t)(UINT32_MAX >> (32 - 8 * n)),
            .shift = 8 * byte,
        };
    }
    return count;
}

/* Four bytes of the plane at each of 16 places. */
INLINE vi v_gather(const int8_t *plane, vi at)
{
    return _mm512_i32gather_epi32(at, plane, 1);
}

/* The windows of 16 candidates: [W][16]. */
static void put_candidates(const struct piece *piece, int pieces, const int8_t *plane, vi position,
                           int words, int32_t *y)
{
    int p = 0;

    for (int word = 0; word < words; word++) {
        vi all = v_set_int(0);

        for (; p < pieces && piece[p].word == word; p++) {
            vi v = v_gather(plane, v_add_int(position, v_set_int(piece[p].offset)));

            v = v_shift_left(v_and(v, v_set_int(piece[p].mask)), v_set_int(piece[p].shift));
            all = v_or(all, v);
        }
        v_store(y + word * LANES, all);
    }
}

static void put_centres(const struct els_sweep *s, const struct els_layout *o, const int8_t *plane,
                        vi position, float *centre)
{
    for (int c = 0; c < s->shape.c; c++) {
        int offset = (c * o->plane_h + s->rh) * o->plane_w + s->rw;
        vi v = v_gather(plane, v_add_int(position, v_set_int(offset)));

        v = v_shift_right(v_shift_left(v, v_set_int(24)), v_set_int(24));
        v_store_float(centre + c * LANES, v_add(v_to_float(v), v_set(0.5f)));
    }
}

static void prepare_group(const struct els_sweep *s, const int64_t *images, int count, void *group)
{
    struct piece piece[MAX_VALUES];
    struct els_layout o;
    struct els_lists lists;
    struct els_class_at c;
    int words = words_of(s), pieces;
    int32_t *y;
    float *centre;

    els_layout_of(s, &o);
    els_lists_at(&o, group, &lists);
    els_lists_fill(s, &o, images, count, &lists);
    pieces = list_pieces(s, &o, piece);
    y = (int32_t *)group_y(&o, group);
    centre = (float *)group_centres(s, &o, group);
    for (els_first(&o, &c); els_more(&o, &c); els_next(&o, &c))
        for (int n = c.first_vector; n < c.first_vector + lists.vectors[c.index]; n++) {
            vi position = v_load(lists.position + (ptrdiff_t)n * LANES);

            put_candidates(piece, pieces, lists.plane, position, words,
                           y + (ptrdiff_t)n * words * LANES);
            put_centres(s, &o, lists.plane, position,
                        centre + (ptrdiff_t)n * s->shape.c * LANES);
        }
}

/* ---- one query and one group ---- */

/* To the nearest whole number, in a form that compilers put into vectors; |v| < 2^40. */
static int64_t round_off(double v)
{
    const int64_t far = (int64_t)1 << 41; /* casts cut towards 0 */

    return (int64_t)(v + (double)far + 0.5) - far;
}

/*
 * The biases of n candidates, negated, in D's units: ‖y‖² and the number of equal patches, and the
 * 2^23 in x. `high` counts 2^(8 + e) of them, with mid taken as 128; `low` is the rest.
 * What only fills up a vector is far below any floor.
 */
static void put_biases(const struct query_header *head, int n, const int32_t *restrict square,
                       const int32_t *restrict total, const float *restrict log_count,
                       int32_t *restrict high, int32_t *restrict low)
{
    const int64_t unit = (int64_t)HALF << head->shift, all = (int64_t)1 << (DIGIT_BITS + head->shift);
    const int digits = DIGIT_BITS + head->shift;
    const double per_square = head->bias, per_nat = 1 / head->unit;

    for (int i = 0; i < n; i++) {
        int copy = square[i] < 0;
        double own = (double)(copy ? -1 - square[i] : square[i]) * per_square -
                     (double)log_count[i] * per_nat;
        int64_t half = (int64_t)total[i] * unit;
        /* The 2^23 of x is 2^8 times the half of the middle digit's range. */
        int64_t v = half - round_off(own) - half * (1 << DIGIT_BITS) - (copy ? COPY : 0);

        high[i] = (int32_t)(v >> digits);
        low[i] = (int32_t)((v & (all - 1)) - half);
    }
}

/* The parts of the work area. */
struct work {
    int32_t *high, *low; /* biases */
    int32_t *filtered;   /* H */
};

static struct work work_of(const struct els_layout *o, void *work)
{
    ptrdiff_t biases = (ptrdiff_t)o->vectors * LANES;

    return (struct work){work, (int32_t *)work + biases, (int32_t *)work + 2 * biases};
}

/* The logit of the first candidate of a list, from the definition. */
static int64_t first_logit(const struct query_header *head, int words, const int32_t *x,
                           const int32_t *y, int64_t bias)
{
    const uint8_t *digit = (const uint8_t *)x;
    int64_t sum[DIGITS] = {0};

    for (int w = 0; w < words; w++)
        for (int d = 0; d < DIGITS; d++)
            for (int b = 0; b < 4; b++)
                sum[d] += digit[(d * words + w) * 4 + b] *
                          ((const int8_t *)(y + (ptrdiff_t)w * LANES))[b];
    return sum[0] * (1 << (DIGIT_BITS + head->shift)) + sum[1] * (1 << head->shift) +
           (sum[2] >> (DIGIT_BITS - head->shift)) - bias;
}

/* Where a pixel of the image lies in the band, or −1. */
static int in_band(const struct els_sweep *s, int pixel)
{
    int q = pixel - s->band_from * s->shape.w;

    return q >= 0 && pixel < s->band_to * s->shape.w ? q : -1;
}

/* The floors of the queries of one class: the first is `cut` below the logit of a candidate. */
static void set_floors(const struct els_sweep *s, const struct els_layout *o,
                       const struct els_class_at *c, const void *query, const void *group,
                       const struct work *work, struct els_lanes *lanes)
{
    const struct query_header *head = query;
    int words = words_of(s), v = c->first_vector * LANES;
    const int32_t *y = group_y(o, group) + (ptrdiff_t)c->first_vector * words * LANES;
    int64_t bias =
        -((int64_t)work->high[v] * (1 << (DIGIT_BITS + head->shift)) + work->low[v]);

    for (int n = c->first_query; n < c->first_query + c->queries; n++) {
        int q = in_band(s, query_pixels(query)[n]);
        const int32_t *x = query_x(o, query) + (ptrdiff_t)n * DIGITS * words;

        if (q >= 0 && lanes->floor[q] != ELS_NO_FLOOR)
            follow_total(head, lanes, (size_t)q);
        else if (q >= 0)
            set_floor(head, lanes, (size_t)q, first_logit(head, words, x, y, bias) - head->cut);
    }
}

static void begin(const struct els_sweep *s, const void *query, const void *group, void *work,
                  struct els_lanes *lanes)
{
    const struct query_header *head = query;
    struct els_layout o;
    struct els_lists lists;
    struct els_class_at c;
    struct work w;

    els_layout_of(s, &o);
    els_lists_at(&o, (void *)group, &lists);
    w = work_of(&o, work);
    for (els_first(&o, &c); els_more(&o, &c); els_next(&o, &c)) {
        int from = c.first_vector * LANES, to = from + lists.vectors[c.index] * LANES;

        put_biases(head, to - from, lists.square + from, lists.total + from,
                   lists.log_count + from, w.high + from, w.low + from);
        set_floors(s, &o, &c, query, group, &w, lanes);
    }
}

#endif
