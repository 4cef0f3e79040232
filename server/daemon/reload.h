/*
 * reload: what SIGHUP does: banks, API keys and log settings are read again.
 *
 *     while (sigwait(&signals, &number) == 0 && number == SIGHUP)
 *         srv_reload(daemon);
 */
#ifndef SRV_RELOAD_H
#define SRV_RELOAD_H

#include "server/base/daemon.h"

/* On the main thread. Everything that was read is in use when it returns, or nothing is and the log
 * says why. Settings that need a restart are named in the log and left as they are. */
void srv_reload(struct srv_daemon *daemon);

#endif
