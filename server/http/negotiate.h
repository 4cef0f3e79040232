/*
 * accept: content negotiation by RFC 9110, sections 12.4 and 12.5.1.
 *
 *     static const char *const offers[] = {"application/json", "image/png", NULL};
 *     const char *best = srv_negotiate_best("image/png;q=0.8, application/json;q=0.5", offers);   //
 * "image/png"
 *
 * Pure; any thread.
 */
#ifndef SRV_NEGOTIATE_H
#define SRV_NEGOTIATE_H

/* The offer with the highest weight (among equals the first), or NULL when every weight is 0.
 * `accept` NULL or empty accepts everything. Elements that are not media ranges are passed over. */
const char *srv_negotiate_best(const char *accept, const char *const *offers);

#endif
