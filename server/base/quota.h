/*
 * quota: how many of something each name holds, and the most it may: jobs per API key or address.
 *
 *     struct srv_quota *quota = NULL;
 *     srv_quota_new(&quota, 8);
 *     if (srv_quota_take(quota, "192.0.2.7") == 0)
 *         …
 *     srv_quota_give(quota, "192.0.2.7");
 *     quota = srv_quota_free(quota);
 *
 * Any thread; a lock of its own, the innermost. The name "" is never counted.
 */
#ifndef SRV_QUOTA_H
#define SRV_QUOTA_H

#include <stdint.h>

enum { SRV_QUOTA_NAME = 64 };

struct srv_quota;

/* `most` 0: no limit, names are only counted. */
int srv_quota_new(struct srv_quota **out, int64_t most);
/* NULL is fine. Returns NULL. */
struct srv_quota *srv_quota_free(struct srv_quota *quota);

/* 0; ELS_ELIMIT when the name holds the most already; ELS_ENOMEM. */
int srv_quota_take(struct srv_quota *quota, const char *name);
/* The same without a limit: for what an earlier process had let in. */
int srv_quota_take_any(struct srv_quota *quota, const char *name);
void srv_quota_give(struct srv_quota *quota, const char *name);
/* How many the name holds. */
int64_t srv_quota_held(struct srv_quota *quota, const char *name);

#endif
