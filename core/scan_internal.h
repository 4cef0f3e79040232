/*
 * scan_internal: what the parts of a scan share: scan.c cuts the work and merges it, scan_windows.c and
 * scan_whole.c walk the candidates of one image, scan_keep.c remembers the nearest and adds the weights.
 */
#ifndef ELS_SCAN_INTERNAL_H
#define ELS_SCAN_INTERNAL_H

#include "geometry.h"
#include "scan.h"

/* What does not change while a scan runs. */
struct els_scan_plan {
    const struct els_scan_question *q;
    struct els_shape shape;
    size_t pixels; /* of the result */
    int rh, rw;    /* window radius in rows and columns, cut to the image */
    int ph, pw;    /* sides of a padded image: h + 2·rh, w + 2·rw */
    struct els_runs rows, columns;
    double inverse; /* 1/2β; 0 without weights */
    double slack;   /* a fast distance differs from the plain one by at most this */
    double *x;      /* [C,ph,pw]: wrapped around, or 0 outside */
    double *blank;  /* [H,W]: the plain distance of a patch that is black all over */
};

/* The nearest candidates so far, and the sums, of a part of the bank. */
struct els_scan_part {
    struct els_found *found; /* [pixels,top] */
    double *limit;           /* [pixels]: a fast distance above it cannot enter the list */
    double *least, *near, *s, *u; /* [pixels]; at fast distances from `near` on, weights do not count */
};

/* A worker's buffers. */
struct els_scan_work {
    double *y;      /* [C,ph,pw]: a·y, padded as x is */
    uint8_t *black; /* [ph,pw] */
    uint8_t *blank; /* [H,W] or NULL: is the patch around (k,l) black all over? */
    double *square; /* [ph,pw]: squared differences at one displacement */
    double *column, *distance; /* [2,pw], [pw] */
    int32_t *lit;              /* [pw]: pixels that are not black, per column of a window */
    int64_t polled_ns;
};

/* scan_windows.c: all candidates of bank image `image`, which the work's y holds, for ls, els and bbels. `stop` is
 * asked between displacements. */
void els_scan_windows(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                      struct els_scan_part *part, int (*stop)(void *user), void *user);
/* The plain distance of the window around query (i,j) from the one around source (k,l). */
double els_scan_window_distance(const struct els_scan_plan *plan, const double *y, int i, int j, int k, int l);

/* scan_whole.c: the same for is and es. */
void els_scan_whole(const struct els_scan_plan *plan, struct els_scan_work *work, int32_t image,
                    struct els_scan_part *part, int (*stop)(void *user), void *user);

/* scan_keep.c */

/* Before a: by distance, image, row, column. */
int els_found_precedes(const struct els_found *a, const struct els_found *b);
/* Puts a candidate into pixel q's list, if it belongs there. */
void els_scan_keep(const struct els_scan_plan *plan, struct els_scan_part *part, size_t q,
                   const struct els_found *candidate);
/* Adds the weights of n candidates at the fast distances d[i], of pixels q … q+n−1. */
void els_scan_weigh(const struct els_scan_plan *plan, struct els_scan_part *part, size_t q, const double *d,
                    int n);
/* Adds another part's sums. */
void els_scan_merge(const struct els_scan_plan *plan, struct els_scan_part *into,
                    const struct els_scan_part *from);

#endif
