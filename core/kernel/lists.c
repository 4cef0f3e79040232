/*
 * Lists the candidates of a group. Called by the list kernels once per group, band and scale, on
 * the engine's workers; writes only the block it is given.
 *
 * Sums over windows come from tables of sums over everything above and to the left, modulo 2^32.
 * They give ‖y‖² for the biases, and tell flat patches: n·Σv² = (Σv)² holds exactly when all n
 * values are equal (Cauchy–Schwarz), v = 2u − 255 in integers.
 */
#include "core/kernel/lists.h"

#include <math.h>
#include <string.h>

#include "core/kernel/units.h"

enum { LANES = ELS_MAX_LANES, LEVELS = 256, ALIGN = 64 };

/* ---- classes ---- */

static void measure(const struct els_layout *o, struct els_class_at *c)
{
    if (!els_more(o, c))
        return;
    c->queries = o->rows[c->row].queries * o->cols[c->col].queries;
    /* A source of each of the group's images fills a vector. */
    c->vectors = o->rows[c->row].sources * o->cols[c->col].sources;
    c->vectors += c->vectors % 2;
}

void els_first(const struct els_layout *o, struct els_class_at *c)
{
    *c = (struct els_class_at){0};
    measure(o, c);
}

int els_more(const struct els_layout *o, const struct els_class_at *c)
{
    return c->row < o->num_rows;
}

void els_next(const struct els_layout *o, struct els_class_at *c)
{
    c->first_query += c->queries;
    c->first_vector += c->vectors;
    c->index++;
    if (++c->col == o->num_cols) {
        c->col = 0;
        c->row++;
    }
    measure(o, c);
}

int els_layout_of(const struct els_sweep *s, struct els_layout *o)
{
    struct els_class_at c;

    o->num_rows = els_classes_of(s->machine, s->candidates, s->shape.h, s->r, o->rows,
                                 ELS_AXIS_CLASSES);
    o->num_cols = els_classes_of(s->machine, s->candidates, s->shape.w, s->r, o->cols,
                                 ELS_AXIS_CLASSES);
    if (o->num_rows > ELS_AXIS_CLASSES || o->num_cols > ELS_AXIS_CLASSES)
        return -1;
    o->plane_h = s->shape.h + 2 * s->rh;
    o->plane_w = s->shape.w + 2 * s->rw;
    o->plane = s->shape.c * o->plane_h * o->plane_w;
    for (els_first(o, &c); els_more(o, &c); els_next(o, &c))
        ;
    o->queries = c.first_query;
    o->vectors = c.first_vector;
    return 0;
}

/* ---- one block ---- */

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Entries of the table of one image. */
static size_t table_size(const struct els_layout *o)
{
    return (size_t)(o->plane_h + 1) * (size_t)(o->plane_w + 1);
}

static size_t table_bytes(const struct els_layout *o)
{
    return aligned(LANES * table_size(o) * sizeof(uint32_t));
}

/* Readers take four bytes at a time. */
static size_t plane_bytes(const struct els_layout *o)
{
    return aligned((size_t)LANES * (size_t)o->plane + sizeof(uint32_t));
}

static size_t count_bytes(const struct els_layout *o)
{
    return aligned((size_t)o->num_rows * (size_t)o->num_cols * sizeof(int32_t));
}

static size_t entry_bytes(const struct els_layout *o)
{
    return (size_t)o->vectors * LANES * sizeof(struct els_entry);
}

size_t els_lists_bytes(const struct els_layout *o)
{
    return count_bytes(o) + 4 * (size_t)o->vectors * LANES * sizeof(int32_t) + plane_bytes(o) +
           2 * table_bytes(o) + 2 * entry_bytes(o);
}

void els_lists_at(const struct els_layout *o, void *block, struct els_lists *out)
{
    size_t list = (size_t)o->vectors * LANES * sizeof(int32_t);
    char *at = block;

    out->vectors = (int32_t *)at;
    out->position = (int32_t *)(at += count_bytes(o));
    out->square = (int32_t *)(at += list);
    out->total = (int32_t *)(at += list);
    out->log_count = (float *)(at += list);
    out->plane = (int8_t *)(at += list);
    out->sum = (uint32_t *)(at += plane_bytes(o));
    out->sum_square = (uint32_t *)(at += table_bytes(o));
    out->entry = (struct els_entry *)(at += table_bytes(o));
    out->spare = (struct els_entry *)(at + entry_bytes(o));
}

/* ---- one image ---- */

/* Its values with borders. */
static void spread_image(const struct els_sweep *s, int64_t image, int8_t *plane)
{
    const uint8_t *bank = els_bank_images(s->bank);
    size_t pixels = (size_t)s->shape.h * (size_t)s->shape.w, channels = (size_t)s->shape.c;

    bank += (size_t)image * channels * pixels;
    for (size_t c = 0; c < channels; c++, bank += pixels)
        for (int i = -s->rh; i < s->shape.h + s->rh; i++) {
            int row = els_position(s, i, s->shape.h);

            for (int j = -s->rw; j < s->shape.w + s->rw; j++) {
                int col = els_position(s, j, s->shape.w);

                *plane++ = row < 0 || col < 0 ? 0 : (int8_t)(bank[row * s->shape.w + col] - 128);
            }
        }
}

/* Σ(2u − 255) and Σ(2u − 255)² above and left of every place; what lies outside counts as 0. */
static void sum_image(const struct els_sweep *s, const struct els_layout *o, int image,
                      struct els_lists *lists)
{
    const int8_t *plane = lists->plane + (size_t)image * (size_t)o->plane;
    uint32_t *all_sums = lists->sum + (size_t)image * table_size(o);
    uint32_t *all_squares = lists->sum_square + (size_t)image * table_size(o);
    int w = o->plane_w, size = o->plane_h * w, step = w + 1;

    memset(all_sums, 0, (size_t)step * sizeof(uint32_t));
    memset(all_squares, 0, (size_t)step * sizeof(uint32_t));
    for (int i = 0; i < o->plane_h; i++) {
        uint32_t *sum = all_sums + (i + 1) * step, *square = all_squares + (i + 1) * step;
        uint32_t row_sum = 0, row_square = 0;
        int inside_row = els_position(s, i - s->rh, s->shape.h) >= 0;

        sum[0] = square[0] = 0;
        for (int j = 0; j < w; j++) {
            int inside = inside_row && els_position(s, j - s->rw, s->shape.w) >= 0;

            for (int c = 0; inside && c < s->shape.c; c++) {
                int v = 2 * plane[c * size + i * w + j] + 1;

                row_sum += (uint32_t)v;
                row_square += (uint32_t)(v * v);
            }
            sum[j + 1] = sum[j + 1 - step] + row_sum;
            square[j + 1] = square[j + 1 - step] + row_square;
        }
    }
}

/* Over h×w values from (i, j) of a plane. */
static int32_t box_sum(const struct els_layout *o, const uint32_t *table, int i, int j, int h,
                       int w)
{
    int step = o->plane_w + 1;
    const uint32_t *at = table + i * step + j;

    return (int32_t)(at[h * step + w] - at[h * step] - at[w] + at[0]);
}

/* How many values of the window at k along an axis of length n lie inside. */
static int inside_axis(const struct els_sweep *s, int k, int r, int n)
{
    int from = k < r ? 0 : k - r, to = k + r + 1 > n ? n : k + r + 1;

    return s->wraps ? 2 * r + 1 : to - from;
}

/* ---- order ---- */

/* Every third bit. */
static uint32_t spread_bits(uint32_t v)
{
    v = (v | v << 8) & 0x00f00f;
    v = (v | v << 4) & 0x0c30c3;
    return (v | v << 2) & 0x249249;
}

/* −most … most to 0 … 255. */
static uint32_t level(int v, int most)
{
    return most ? (uint32_t)((v + most) * (LEVELS - 1) / (2 * most)) : 0;
}

/*
 * Where a patch stands along a Z-order curve through its mean and its two gradients (right half
 * against left, bottom against top): patches that are neighbours there look alike.
 */
static uint32_t key_of(const struct els_sweep *s, const struct els_layout *o, const uint32_t *sums,
                       int i, int j, int sum)
{
    int h = 2 * s->rh + 1, w = 2 * s->rw + 1, c = s->shape.c;
    int across = box_sum(o, sums, i, j + s->rw + 1, h, s->rw) - box_sum(o, sums, i, j, h, s->rw);
    int down = box_sum(o, sums, i + s->rh + 1, j, s->rh, w) - box_sum(o, sums, i, j, s->rh, w);

    return spread_bits(level(sum, 255 * h * w * c)) << 2 |
           spread_bits(level(across, 510 * h * s->rw * c)) << 1 |
           spread_bits(level(down, 510 * s->rh * w * c));
}

/* One pass of a radix sort: by eight bits of the key, otherwise in the old order. */
static void sort_by(int shift, const struct els_entry *from, size_t n, struct els_entry *to)
{
    size_t next[LEVELS] = {0}, sum = 0;

    for (size_t i = 0; i < n; i++)
        next[from[i].key >> shift & (LEVELS - 1)]++;
    for (int b = 0; b < LEVELS; b++) {
        size_t count = next[b];

        next[b] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        to[next[from[i].key >> shift & (LEVELS - 1)]++] = from[i];
}

/* The n entries in order; the sorted array. A few vectors are not worth it. */
static const struct els_entry *sorted(const struct els_lists *lists, size_t n)
{
    if (n < LEVELS)
        return lists->entry;
    sort_by(0, lists->entry, n, lists->spare);
    sort_by(8, lists->spare, n, lists->entry);
    sort_by(16, lists->entry, n, lists->spare);
    return lists->spare;
}

/* ---- one class ---- */

/* Flat patches of one class, by the value u. */
struct flats {
    int32_t count[LEVELS];
    struct els_entry patch[LEVELS];
};

/* The patches of one image that are not flat, from entry n on; the number of entries then. */
static size_t take_image(const struct els_sweep *s, const struct els_layout *o,
                         const struct els_class_at *c, int image, struct flats *flats,
                         struct els_lists *lists, size_t n)
{
    const struct els_class *rows = &o->rows[c->row], *cols = &o->cols[c->col];
    const uint32_t *sums = lists->sum + (size_t)image * table_size(o);
    const uint32_t *squares = lists->sum_square + (size_t)image * table_size(o);
    int h = 2 * s->rh + 1, w = 2 * s->rw + 1;

    for (int k = rows->source; k < rows->source + rows->sources; k++)
        for (int l = cols->source; l < cols->source + cols->sources; l++) {
            int values = inside_axis(s, k, s->rh, s->shape.h) *
                         inside_axis(s, l, s->rw, s->shape.w) * s->shape.c;
            int32_t sum = box_sum(o, sums, k, l, h, w), square = box_sum(o, squares, k, l, h, w);
            struct els_entry e = {
                .position = image * o->plane + k * o->plane_w + l,
                .square = square,
                .total = (sum - values) / 2,
            };

            if ((int64_t)square * values == (int64_t)sum * sum) {
                int u = (sum / values + 255) / 2;

                flats->count[u]++;
                flats->patch[u] = e;
            } else {
                e.key = key_of(s, o, sums, k, l, sum);
                lists->entry[n++] = e;
            }
        }
    return n;
}

static void put(struct els_lists *lists, size_t at, const struct els_entry *e, int count)
{
    lists->position[at] = e->position;
    lists->square[at] = e->square;
    lists->total[at] = e->total;
    lists->log_count[at] = count > 1 ? logf((float)count) : 0;
}

/* The list of one class; returns its vectors. Copies of the last candidate fill it up. */
static int32_t list_class(const struct els_sweep *s, const struct els_layout *o,
                          const struct els_class_at *c, int images, struct els_lists *lists)
{
    size_t first = (size_t)c->first_vector * LANES, at = first, n = 0;
    const struct els_entry *entry;
    struct els_entry copy;
    struct flats flats;

    memset(flats.count, 0, sizeof(flats.count));
    for (int image = 0; image < images; image++)
        n = take_image(s, o, c, image, &flats, lists, n);
    entry = sorted(lists, n);
    for (size_t i = 0; i < n; i++)
        put(lists, at++, &entry[i], 1);
    for (int u = 0; u < LEVELS; u++)
        if (flats.count[u])
            put(lists, at++, &flats.patch[u], flats.count[u]);
    copy = (struct els_entry){.position = lists->position[at - 1],
                              .square = -1 - lists->square[at - 1],
                              .total = lists->total[at - 1]};
    while ((at - first) % (2 * LANES))
        put(lists, at++, &copy, 1);
    return (int32_t)((at - first) / LANES);
}

void els_lists_fill(const struct els_sweep *s, const struct els_layout *o, const int64_t *images,
                    int count, struct els_lists *lists)
{
    struct els_class_at c;

    memset(lists->plane, 0, plane_bytes(o));
    for (int image = 0; image < count; image++) {
        spread_image(s, images[image], lists->plane + (size_t)image * (size_t)o->plane);
        sum_image(s, o, image, lists);
    }
    for (els_first(o, &c); els_more(o, &c); els_next(o, &c))
        lists->vectors[c.index] = list_class(s, o, &c, count, lists);
}
