/*
 * What the integer sweep plans once for each noisy image: how its displacements are cut into
 * blocks, which of them each query takes, and every query's floor before the first group. See
 * kernel/sweep.h; included by kernel/prepare.h.
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

/* Bundles that begin and end a block as triangles: see FIRST and LAST. */
INLINE int has_triangles(int n, int planes)
{
    return n > 1 && columns_together(n, planes) == n;
}

/*
 * How a row of a block is cut into bundles of queries that are taken together, and which
 * displacements k the queries b = 0, 1, … of a bundle take: any that `allow` names; all; most, that
 * is all but the last, in a block that lacks it; or, in a block's first and last bundle, where each
 * displacement begins and ends one query apart,
 *
 *     FIRST   k 0 1 2 3      LAST    k 0 1 2 3
 *       b=0     □ □ □ ■        b=0     ■ ■ ■ ■
 *         1     □ □ ■ ■          1     ■ ■ ■ □
 *         2     □ ■ ■ ■          2     ■ ■ □ □
 *         3     ■ ■ ■ ■          3     ■ □ □ □
 *
 * Queries that are left over come one by one.
 */
enum shape { ANY, ALL, MOST, FIRST, LAST, ONE };
enum { MAX_SEGMENTS = 6 };

/* Does query b of a bundle of n displacements take displacement k, as far as the shape tells? */
INLINE int takes(enum shape shape, int n, int b, int k)
{
    switch (shape) {
    case MOST:
        return k < n - 1;
    case FIRST:
        return b + k >= n - 1;
    case LAST:
        return b + k < n;
    default:
        return 1;
    }
}

struct cut {
    int first, last; /* queries first … last − 1 take any of the block's displacements */
    int num_segments;
    struct {
        enum shape shape;
        int bundles;
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
 * not (of two, the second): at both ends a block's longest run of queries is then a multiple of n,
 * and no query is left over. For −5 … 5 and n = 4: −5 … −2; −1, 0, 1 and one that lacks; 2 … 5.
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

/*
 * Where the parts of a query lie: header, first floors, cuts, allowed slots, x, then
 * pairs of x.
 */
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

/* The noisy image itself: [C,H,W]. */
static float *query_image(const struct els_sweep *s, const void *query)
{
    return (float *)(query_allowed(s, query) + (size_t)s->shape.w * (size_t)most_slots(s));
}

static int32_t *query_pairs(const struct els_sweep *s, const void *query)
{
    return (int32_t *)(query_image(s, query) + els_shape_values(s->shape));
}

/* Of all up to the pairs. */
static size_t plan_bytes(const struct els_sweep *s)
{
    size_t w = (size_t)s->shape.w, slots = (size_t)most_slots(s);

    return HEADER_BYTES + (size_t)s->shape.h * w * sizeof(int64_t) + slots * sizeof(struct cut) +
           w * slots * sizeof(int32_t) + els_shape_values(s->shape) * sizeof(float);
}

/* ---- first floors ---- */

/* The selection's first image: [C,H,W]. */
static const uint8_t *first_image(const struct els_sweep *s)
{
    const uint8_t *bank = els_bank_images(s->bank);

    return bank + (size_t)s->images[0] * els_shape_values(s->shape);
}

/* What a value x of the noisy image and a byte u of a candidate add to a logit, in D's units. */
static double logit_term(const struct query_header *head, double x, int u)
{
    return ldexp(x * head->per_one, -head->shift) * (u - 128) -
           head->bias * (2 * u - 255) * (2 * u - 255);
}

/* Adds, or takes away, image row t (outside, nothing) of both at their own places. */
static void add_own_row(const struct els_sweep *s, const struct query_header *head, const float *x,
                        int t, int sign, double *column)
{
    int w = s->shape.w, row = els_position(s, t, s->shape.h);
    const uint8_t *image = first_image(s);

    for (int c = 0; row >= 0 && c < s->shape.c; c++)
        for (int j = 0; j < w; j++) {
            size_t at = ((size_t)c * (size_t)s->shape.h + (size_t)row) * (size_t)w + (size_t)j;

            column[j] += sign * logit_term(head, (double)x[at], image[at]);
        }
}

static double column_at(const struct els_sweep *s, const double *column, int j)
{
    int at = els_position(s, j, s->shape.w);

    return at < 0 ? 0 : column[at];
}

/* The source that is nearest to query q of an axis of length n. */
static int nearest_source(const struct els_sweep *s, int n, int q)
{
    int from, to;

    els_sources_of(s->machine, s->candidates, n, s->r, q, &from, &to);
    return q < from ? from : q < to ? q : to - 1;
}

/*
 * Every query's floor before the first group: `cut` below the logit of some candidate. That is the
 * first image's patch at the query's own place, by sliding sums; where that is no candidate there
 * is no floor yet, see set_floors().
 */
static void plan_floors(const struct els_sweep *s, const float *x, const struct query_header *head,
                        int64_t *floor)
{
    int h = s->shape.h, w = s->shape.w;
    double column[ELS_MAX_SIDE] = {0};

    for (int t = -s->rh; t < s->rh; t++)
        add_own_row(s, head, x, t, 1, column);
    for (int i = 0; i < h; i++) {
        double sum = 0;

        add_own_row(s, head, x, i + s->rh, 1, column);
        for (int j = -s->rw; j < s->rw; j++)
            sum += column_at(s, column, j);
        for (int j = 0; j < w; j++) {
            int is_candidate = nearest_source(s, h, i) == i && nearest_source(s, w, j) == j;

            sum += column_at(s, column, j + s->rw);
            *floor++ = is_candidate ? (int64_t)sum - head->cut : ELS_NO_FLOOR;
            sum -= column_at(s, column, j - s->rw);
        }
        add_own_row(s, head, x, i - s->rh, -1, column);
    }
}

/* The floor of a query that does not take its own place: from the definition. */
static int64_t first_floor(const struct els_sweep *s, const float *x,
                           const struct query_header *head, int i, int j)
{
    int h = s->shape.h, w = s->shape.w;
    int k = nearest_source(s, h, i), l = nearest_source(s, w, j);
    double sum = 0;

    for (int c = 0; c < s->shape.c; c++, x += h * w)
        for (int t = -s->rh; t <= s->rh; t++)
            for (int b = -s->rw; b <= s->rw; b++) {
                int x_row = els_position(s, i + t, h), x_col = els_position(s, j + b, w);
                int y_row = els_position(s, k + t, h), y_col = els_position(s, l + b, w);
                const uint8_t *y = first_image(s) + (ptrdiff_t)c * h * w;

                if (y_row >= 0 && y_col >= 0)
                    sum += logit_term(head, x_row < 0 || x_col < 0 ? 0 : x[x_row * w + x_col],
                                      y[y_row * w + y_col]);
            }
    return (int64_t)sum - head->cut;
}

/* ---- who takes whom ---- */

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

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* As many whole bundles as queries j … end − 1 make; leaves the query after them. */
static int add_segment(struct cut *cut, enum shape shape, int width, int j, int end)
{
    int bundles = end > j ? (end - j) / width : 0;

    if (bundles > 0) {
        cut->segment[cut->num_segments].shape = shape;
        cut->segment[cut->num_segments++].bundles = bundles;
    }
    return j + bundles * width;
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
    int lacks_last = n > 1 && of[n - 1].first >= of[n - 1].last;
    int full_first = 0, full_last = s->shape.w; /* those that take all, or most */

    *cut = (struct cut){.first = s->shape.w};
    for (int k = 0; k < n; k++) {
        cut->first = of[k].first < cut->first ? of[k].first : cut->first;
        cut->last = of[k].last > cut->last ? of[k].last : cut->last;
        if (lacks_last && k == n - 1)
            continue;
        full_first = of[k].first > full_first ? of[k].first : full_first;
        full_last = of[k].last < full_last ? of[k].last : full_last;
    }
    j = cut->first;
    if (full_first < full_last) {
        if (triangles && begin_apart(n, cut->first, of))
            j = add_segment(cut, FIRST, width, j, j + width);
        if (j < full_first)
            j = add_segment(cut, ANY, width, j, least(full_first + width - 1, cut->last));
        j = add_segment(cut, lacks_last ? MOST : ALL, width, j, full_last);
        if (triangles && end_apart(n, cut->last, of) && j + width == cut->last)
            j = add_segment(cut, LAST, width, j, cut->last);
    }
    j = add_segment(cut, ANY, width, j, cut->last);
    add_segment(cut, ONE, 1, j, cut->last);
}

/* Displacements of one block of this sweep: see the variants in kernel/sweep.h. */
static int block_of(const struct els_sweep *s, const struct query_header *head);

/* What a query holds before its pairs; the header is complete. */
static void plan_query(const struct els_sweep *s, const float *x, void *query)
{
    const struct query_header *head = query;
    struct extent extent[2 * ELS_MAX_SIDE + BLOCK];
    int n = block_of(s, head), blocks = blocks_of(s, n).count;

    memcpy(query_image(s, query), x, els_shape_values(s->shape) * sizeof(*x));
    plan_floors(s, x, head, query_floors(s, query));
    plan_slots(s, n, query_allowed(s, query), extent);
    for (int k = 0; k < blocks; k++)
        plan_cut(s, n, head->planes, extent + k * n, query_cuts(s, query) + k);
}

#endif
