/*
 * What the integer sweep plans once for each noisy image: how its displacements are cut into
 * blocks, which of them each query takes, and every query's floor before the first group. See
 * kernel_sweep.h; included by kernel_prepare.h.
 */
#ifndef ELS_KERNEL_PLAN_H
#define ELS_KERNEL_PLAN_H

/* ---- blocks of displacements ---- */

enum { COLUMNS = 4 }; /* that are taken together, at most */

/*
 * So many columns are taken together: each y is loaded once for all of them, where otherwise every
 * product takes a load. Their sums must fit into registers.
 */
INLINE int columns_together(int n, int planes)
{
    int fit = SUMS / (n * planes);

    return fit > COLUMNS ? COLUMNS : fit;
}

/* Groups that begin and end a block as triangles. */
INLINE int has_triangles(int n, int planes)
{
    return n > 1 && columns_together(n, planes) == n;
}

/*
 * How a row of a block is cut into groups of queries that are taken together, and which
 * displacements k the queries b = 0, 1, … of a group take: any that `allow` names; all; or, in a
 * block's first and last group, where each displacement begins and ends one query apart,
 *
 *     FIRST   k 0 1 2 3      LAST    k 0 1 2 3
 *       b=0     □ □ □ ■        b=0     ■ ■ ■ ■
 *         1     □ □ ■ ■          1     ■ ■ ■ □
 *         2     □ ■ ■ ■          2     ■ ■ □ □
 *         3     ■ ■ ■ ■          3     ■ □ □ □
 *
 * Queries that are left over come one by one.
 */
enum shape { ANY, ALL, FIRST, LAST, ONE };
enum { MAX_SEGMENTS = 6 };

struct cut {
    int first, last; /* queries first … last − 1 take any of the block's displacements */
    int num_segments;
    struct {
        enum shape shape;
        int groups;
    } segment[MAX_SEGMENTS];
};

/* Of the displacements of columns, source − query, the first; and their number. */
static int first_displacement(const struct els_sweep *s)
{
    return s->cols.run[0].source - s->cols.run[0].query;
}

static int displacements(const struct els_sweep *s)
{
    const struct els_run *last = &s->cols.run[s->cols.count - 1];

    return last->source - last->query - first_displacement(s) + 1;
}

/*
 * Blocks of n displacements. Where the last would not be full it is the one in the middle that is
 * not: the blocks at both ends are short, and so begin and end with whole groups of columns.
 */
struct blocks {
    int n, count, first;
    int full; /* displacements up to and with the middle block; after it comes what it lacks */
    int lacks;
};

static struct blocks blocks_of(const struct els_sweep *s, int n)
{
    int all = displacements(s), count = (all + n - 1) / n, lacks = count * n - all;

    return (struct blocks){
        .n = n,
        .count = count,
        .first = first_displacement(s),
        .full = (count / 2 + 1) * n - lacks,
        .lacks = lacks,
    };
}

/* The displacement at slot k of the blocks; what a block lacks has that of the next. */
static int displacement_at(const struct blocks *b, int k)
{
    return b->first + (k < b->full + b->lacks ? k : k - b->lacks);
}

static int is_lacking(const struct blocks *b, int k)
{
    return k >= b->full && k < b->full + b->lacks;
}

/* Slots of blocks, at most. */
static int most_slots(const struct els_sweep *s)
{
    return (displacements(s) + BLOCK - 1) / BLOCK * BLOCK;
}

/* ---- what a query begins with ---- */

/* Where the parts of a query lie: header, first floors, cuts, allowed slots, then pairs of x. */
static int64_t *query_floors(const struct els_sweep *s, const void *query)
{
    (void)s;
    return (int64_t *)((intptr_t)query + HEADER_BYTES);
}

/* One for each block. */
static struct cut *query_cuts(const struct els_sweep *s, const void *query)
{
    return (struct cut *)(query_floors(s, query) + (size_t)s->shape.h * (size_t)s->shape.w);
}

/* Which slots each query takes: [W][slots], −1 or 0. */
static int32_t *query_allowed(const struct els_sweep *s, const void *query)
{
    return (int32_t *)(query_cuts(s, query) + most_slots(s));
}

static int32_t *query_pairs(const struct els_sweep *s, const void *query)
{
    return query_allowed(s, query) + (size_t)s->shape.w * (size_t)most_slots(s);
}

/* Of all up to the pairs. */
static size_t plan_bytes(const struct els_sweep *s)
{
    size_t w = (size_t)s->shape.w, slots = (size_t)most_slots(s);

    return HEADER_BYTES + (size_t)s->shape.h * w * sizeof(int64_t) + slots * sizeof(struct cut) +
           w * slots * sizeof(int32_t);
}

/* ---- first floors, and who takes whom ---- */

/*
 * The logit of source (k, l) of the selection's first image for query (i, j), in D's units, from
 * the definition. x: [C,H,W].
 */
static double first_logit(const struct els_sweep *s, const float *x,
                          const struct query_header *head, int i, int j, int k, int l)
{
    int h = s->shape.h, w = s->shape.w;
    size_t plane = (size_t)h * (size_t)w;
    const uint8_t *bank = els_bank_images(s->bank);
    const uint8_t *image = bank + (size_t)s->images[0] * plane * (size_t)s->shape.c;
    double product = 0, square = 0;

    for (int t = -s->rh; t <= s->rh; t++) {
        int x_row = els_position(s, i + t, h), y_row = els_position(s, k + t, h);

        for (int b = -s->rw; b <= s->rw; b++) {
            int x_col = els_position(s, j + b, w), y_col = els_position(s, l + b, w);

            if (y_row < 0 || y_col < 0)
                continue;
            for (int c = 0; c < s->shape.c; c++) {
                double u = image[(size_t)c * plane + (size_t)(y_row * w + y_col)];

                square += (2 * u - 255) * (2 * u - 255);
                if (x_row >= 0 && x_col >= 0)
                    product +=
                        (double)x[(size_t)c * plane + (size_t)(x_row * w + x_col)] * (u - 128);
            }
        }
    }
    return ldexp(product * head->per_one, -head->shift) - square * head->bias;
}

/* Every query's floor before the first group: `cut` below the logit of some candidate. */
static void plan_floors(const struct els_sweep *s, const float *x, const struct query_header *head,
                        int64_t *floor)
{
    for (int i = 0; i < s->shape.h; i++)
        for (int j = 0; j < s->shape.w; j++) {
            int k, l, end;

            els_sources_of(s->machine, s->candidates, s->shape.h, s->r, i, &k, &end);
            k = i < k ? k : i < end ? i : end - 1;
            els_sources_of(s->machine, s->candidates, s->shape.w, s->r, j, &l, &end);
            l = j < l ? l : j < end ? j : end - 1;
            *floor++ = (int64_t)first_logit(s, x, head, i, j, k, l) - head->cut;
        }
}

/* The queries of a row that take one slot: none before the first, none from the last on. */
struct extent {
    int32_t first, last;
};

/* The slots of blocks of n displacements that each query takes. */
static void plan_slots(const struct els_sweep *s, int n, int32_t *allow, struct extent *extent)
{
    struct blocks blocks = blocks_of(s, n);
    int slots = blocks.count * n;

    for (int k = 0; k < slots; k++)
        extent[k] = (struct extent){s->shape.w, 0};
    for (int j = 0; j < s->shape.w; j++) {
        int from, to;

        els_sources_of(s->machine, s->candidates, s->shape.w, s->r, j, &from, &to);
        for (int k = 0; k < slots; k++) {
            int source = j + displacement_at(&blocks, k);
            int takes = !is_lacking(&blocks, k) && source >= from && source < to;

            *allow++ = takes ? -1 : 0;
            if (takes)
                extent[k] = (struct extent){j < extent[k].first ? j : extent[k].first, j + 1};
        }
    }
}

/* As many whole groups as queries j … end − 1 make; leaves the query after them. */
static int add_segment(struct cut *cut, enum shape shape, int width, int j, int end)
{
    int groups = end > j ? (end - j) / width : 0;

    if (groups > 0) {
        cut->segment[cut->num_segments].shape = shape;
        cut->segment[cut->num_segments++].groups = groups;
    }
    return j + groups * width;
}

/* Do n displacements begin one query apart, the last of them first? */
static int begin_apart(int n, int first, const struct extent *of)
{
    for (int k = 0; k < n; k++)
        if (of[k].first != first + n - 1 - k)
            return 0;
    return 1;
}

/* Do they end one query apart, the last of them first? */
static int end_apart(int n, int last, const struct extent *of)
{
    for (int k = 0; k < n; k++)
        if (of[k].last != last - k)
            return 0;
    return 1;
}

/* How the rows of one block of n displacements are cut. */
static void plan_cut(const struct els_sweep *s, int n, int planes, const struct extent *of,
                     struct cut *cut)
{
    int width = columns_together(n, planes), triangles = has_triangles(n, planes), j;
    int full_first = 0, full_last = s->shape.w; /* those that take all displacements */

    *cut = (struct cut){.first = s->shape.w};
    for (int k = 0; k < n; k++) {
        cut->first = of[k].first < cut->first ? of[k].first : cut->first;
        cut->last = of[k].last > cut->last ? of[k].last : cut->last;
        full_first = of[k].first > full_first ? of[k].first : full_first;
        full_last = of[k].last < full_last ? of[k].last : full_last;
    }
    j = cut->first;
    if (full_first < full_last) {
        if (triangles && begin_apart(n, cut->first, of))
            j = add_segment(cut, FIRST, width, j, j + width);
        if (j < full_first)
            j = add_segment(cut, ANY, width, j, full_first + width - 1);
        j = add_segment(cut, ALL, width, j, full_last);
        if (triangles && end_apart(n, cut->last, of) && j + width == cut->last)
            j = add_segment(cut, LAST, width, j, cut->last);
    }
    j = add_segment(cut, ANY, width, j, cut->last);
    add_segment(cut, ONE, 1, j, cut->last);
}

/* Displacements of one block of this sweep: see the variants in kernel_sweep.h. */
static int block_of(const struct els_sweep *s, const struct query_header *head);

/* What a query holds before its pairs; the header is complete. */
static void plan_query(const struct els_sweep *s, const float *x, void *query)
{
    const struct query_header *head = query;
    struct extent extent[2 * ELS_MAX_SIDE + BLOCK];
    int n = block_of(s, head), blocks = blocks_of(s, n).count;

    plan_floors(s, x, head, query_floors(s, query));
    plan_slots(s, n, query_allowed(s, query), extent);
    for (int k = 0; k < blocks; k++)
        plan_cut(s, n, head->planes, extent + k * n, query_cuts(s, query) + k);
}

#endif
