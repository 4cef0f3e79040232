/*
 * progress: the callback by which long work reports its progress and is cancelled.
 *
 *     static int poll(void *user, double done)
 *     {
 *         printf("\r%3.0f %%", 100 * done);
 *         return atomic_load((atomic_bool *)user);        // true: stop
 *     }
 *     els_evaluate(&e, pool, &(struct els_progress){poll, &cancelled}, &answer, &err);
 */
#ifndef ELS_PROGRESS_H
#define ELS_PROGRESS_H

#include "els/api.h"

ELS_BEGIN_DECLS

/*
 * poll() is called from any worker thread, at least every 50 ms or so, with the share of the work that is done, 0…1;
 * non-zero stops it with ELS_ECANCELLED.
 */
struct els_progress {
    int (*poll)(void *user, double done);
    void *user;
};

ELS_END_DECLS

#endif
