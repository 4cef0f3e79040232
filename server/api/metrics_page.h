/*
 * metrics_page: what GET /metrics answers.
 *
 *     struct els_buffer page = ELS_BUFFER_INIT(MAX_PAGE);
 *     if (srv_metrics_page(daemon, &page) == 0)
 *         srv_response_bytes(res, 200, "text/plain; version=0.0.4; charset=utf-8", page.data, page.size);
 */
#ifndef SRV_METRICS_PAGE_H
#define SRV_METRICS_PAGE_H

#include "els/mem.h"

struct srv_daemon;

/* Appends the page in Prometheus' text format 0.0.4. ELS_ENOMEM or ELS_ELIMIT. */
int srv_metrics_page(struct srv_daemon *daemon, struct els_buffer *out);

#endif
