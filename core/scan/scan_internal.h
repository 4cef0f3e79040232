/*
 * scan_internal: what the parts of a scan share.
 *
 *     scan_plan.c     what does not change while it runs, and how it is cut
 *     scan.c          spreads the parts over the pool and merges them
 *     scan_group.c    lays eight bank images side by side; the patches that are black all over
 *     scan_windows.c  the candidates of ls, els and bbels
 *     scan_whole.c    those of is and es
 *     scan_loops.h    the inner loops, eight images at once
 *     scan_keep.c     the lists of the nearest, and the sums of the weights
 */
#ifndef ELS_SCAN_INTERNAL_H
#define ELS_SCAN_INTERNAL_H

#include "core/scan/scan.h"
#include "core/theory/geometry.h"

enum {
    ELS_SCAN_LANES = 8,   /* images side by side: a *group* of the selected ones */
    ELS_SCAN_PARTS = 64,  /* of a scan, at most */
    ELS_SCAN_SUMS_BYTES = 256 << 20, /* of all parts' sums; one part is always taken */
    ELS_SCAN_ABREAST = 4, /* translates of is and es that are summed at once */
};

struct els_scan_range {
    int from, to;
};

/* What does not change while a scan runs. */
struct els_scan_plan {
    const struct els_scan_question *q;
    const struct els_scan_loops *loops;
    struct els_shape shape;
    size_t pixels; /* of the result */

    int rh, rw;              /* window radius in rows and columns, cut to the image */
    int ph, pw;              /* sides of a padded image */
    int *row_at, *column_at; /* [ph], [pw]: the row that a padded row shows; −1: none */
    double *x;               /* [C,ph,pw] */
    double value[256];       /* a·y of a U8 pixel */

    /* Of windows alone. */
    struct els_runs rows, columns;
    struct els_scan_range *rows_of, *columns_of; /* [H], [W]: the sources of a query */
    double *blank; /* [H,W]: the plain distance of a patch that is black all over */

    int64_t groups;
    int strips; /* displacements of rows: a group's candidates are walked strip by strip */
    int parts;

    double slack;   /* a fast distance differs from the plain one by less than this */
    double inverse; /* 1/2β; 0 without weights */
    double reach;   /* weights do not count at distances that exceed the least by this */
};

/* What a part of the bank adds up to: see struct els_scan. */
struct els_scan_sums {
    double *least, *s, *u; /* [pixels]; one block, `least` first */
};

/* A worker's buffers. Those of float64 are one block, `y` first. */
struct els_scan_work {
    /* The group under way. Lanes beyond `count` hold no image: y is 0, all patches are apart. */
    int64_t group; /* −1: none yet */
    int count;
    int32_t image[ELS_SCAN_LANES];
    double *y; /* [C,ph,pw,LANES]: a·y, padded as x is */
    /* [H,W,LANES], of is and es [1,LANES]: is added to fast distances. 0, or INFINITY where the
     * patch around (k,l) is black all over, for those are counted apart. */
    double *apart;
    int32_t *blanks; /* [LANES,H+1,W+1]: how many of those there are above and left of (k,l) */
    uint8_t *black;  /* [ph,pw] of one image */
    int32_t *lit;    /* [pw]: pixels that are not black, per column of a window */

    /* The nearest candidates of all parts that this worker walked. */
    struct els_found *found; /* [pixels,top] */
    double *limit;           /* [pixels]: a fast distance from it on cannot enter the list */

    /* The weights of the part under way. `least` is the least fast distance so far; from `near` on
     * weights do not count: −INFINITY if none are wanted. */
    double *least, *near; /* [pixels] */
    double *s, *u;        /* [pixels,LANES] */
    double *blank_count;  /* [pixels]: candidates that are black all over */

    /* Squared differences of the rows of a window, row i at i mod 2·rh+1, and their sums. */
    double *square;   /* [2·rh+1,pw,LANES] */
    double *column;   /* [pw,LANES] */
    double *distance; /* [W,LANES]; [ABREAST,LANES] of is and es */
    int64_t polled_ns;
};

/* scan_plan.c. The sizes alone: nothing is allocated, and there is nothing to undo. */
void els_scan_plan_sizes(struct els_scan_plan *plan, const struct els_scan_question *q);
/* Both need els_scan_plan_deinit, also after a failure. */
int els_scan_plan_init(struct els_scan_plan *plan, const struct els_scan_question *q,
                       const struct els_progress *progress);
void els_scan_plan_deinit(struct els_scan_plan *plan);

/* scan_group.c */

/* Loads group `group`. */
void els_scan_load(const struct els_scan_plan *plan, struct els_scan_work *work, int64_t group);
/* Takes all candidates of the loaded group that are black all over. */
void els_scan_take_blanks(const struct els_scan_plan *plan, struct els_scan_work *work);

/* scan_windows.c and scan_whole.c: one strip of the loaded group. `stop` is asked between
 * displacements, and between candidates that are summed again. */
void els_scan_windows(const struct els_scan_plan *plan, struct els_scan_work *work, int strip,
                      int (*stop)(void *user), void *user);
void els_scan_whole(const struct els_scan_plan *plan, struct els_scan_work *work, int strip,
                    int (*stop)(void *user), void *user);
/* The plain distance of the window around query (i,j) from the one around source (k,l) of an image.
 * y: [C,ph,pw], `lanes` values apart. */
double els_scan_window_distance(const struct els_scan_plan *plan, const double *y, size_t lanes,
                                int i, int j, int k, int l);

/* A padded row of queries meets a padded row of sources. All but x, limit and near have lanes. */
struct els_scan_row {
    int channels;
    int count, width;           /* queries; columns of their windows */
    size_t plane;               /* pixels from one channel to the next */
    const double *x, *y;        /* [C][count + width − 1] */
    double *square, *column;    /* [count + width − 1] */
    double *distance;           /* [count]; this and the rest are unused by enter */
    const double *apart;        /* [count] */
    const double *limit, *near; /* [count] */
};

enum {
    ELS_SCAN_HIT = 1,  /* a distance below limit */
    ELS_SCAN_NEAR = 2, /* a distance below near */
};

/* The inner loops: scan_loops.h. Buffers with lanes are aligned to 64 bytes. */
struct els_scan_loops {
    /* Puts the squared differences into the column sums, in place of those in `square`. */
    void (*enter)(const struct els_scan_row *row);
    /* The same, then the windows' fast distances. Returns what is among them. */
    int (*slide)(const struct els_scan_row *row);
    /* Is a distance of [n,LANES] below its query's least? */
    int (*any_below)(const double *distance, const double *least, int n);
    /* Adds e^z to s and z·e^z to u, z = (least − distance)/2β; distance [n,LANES]. */
    void (*add_weights)(double *s, double *u, const double *least, const double *near,
                        const double *distance, int n, double inverse);
    /* Adds Σ (x_j − y_{j+t})², j < n, to distance [ABREAST,LANES] for every t. Returns whether any
     * is below `bound`. */
    int (*add_translates)(double *distance, const double *x, const double *y, int n, double bound);
};

/* For any CPU; of x86-64 for those with AVX2 and with AVX-512. The same bytes from all. */
extern const struct els_scan_loops els_scan_loops_c, els_scan_loops_avx2, els_scan_loops_avx512;
/* Those that this CPU can run, the slowest first; NULL past the end. */
const struct els_scan_loops *els_scan_loops_at(int i);
/* The fastest of them. */
const struct els_scan_loops *els_scan_loops_chosen(void);

/* scan_keep.c */

/* Before a: by distance, image, row, column. */
int els_found_precedes(const struct els_found *a, const struct els_found *b);
/* Puts a candidate into pixel q's list. 0 if it does not belong there. */
int els_scan_keep(const struct els_scan_plan *plan, struct els_scan_work *work, size_t q,
                  const struct els_found *candidate);
/* Adds the weights of candidates of pixels q … q+n−1, at the fast distances d [n,LANES]. */
void els_scan_weigh(const struct els_scan_plan *plan, struct els_scan_work *work, size_t q,
                    const double *d, int n);
/* Before a part: no weights yet. */
void els_scan_clear(const struct els_scan_plan *plan, struct els_scan_work *work);
/* After a part: what its weights add up to. */
void els_scan_fold(const struct els_scan_plan *plan, const struct els_scan_work *work,
                   struct els_scan_sums *sums);
void els_scan_merge_sums(const struct els_scan_plan *plan, struct els_scan_sums *into,
                         const struct els_scan_sums *from);
void els_scan_merge_lists(const struct els_scan_plan *plan, struct els_scan_work *into,
                          const struct els_scan_work *from);

#endif
