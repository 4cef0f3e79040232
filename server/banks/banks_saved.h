/*
 * banks_saved: the loaded banks in state_dir/banks.json, so that they, and the jobs that wait for them, outlive the
 * daemon.
 *
 *     {"version": 1, "banks": [{"name": "mnist", "file": "mnist.safetensors", "sha256": "…", "key": "admin",
 *                               "loaded_at": 1764000000000, "offered": true}]}
 *
 *     srv_banks_restore(daemon);              // at start, before the jobs are queued again
 *     srv_banks_settle(daemon->banks);        // and after it
 *     …
 *     srv_banks_save(daemon, &err);           // whenever a bank came or went
 *
 * A bank that is no longer offered stays in the file for as long as jobs use it: after a crash they find it again.
 */
#ifndef SRV_BANKS_SAVED_H
#define SRV_BANKS_SAVED_H

#include "els/error.h"
#include "server/base/daemon.h"

/* Writes the file: whole or not at all, and on disk when it returns. Does nothing without a state_dir. Calls must not
 * overlap. ELS_EIO or ELS_ENOMEM, with a sentence. */
int srv_banks_save(struct srv_daemon *daemon, struct els_error *err);
/* Loads what the file names. What cannot be loaded any more is named in the log and left out. Does nothing without a
 * state_dir. */
void srv_banks_restore(struct srv_daemon *daemon);

#endif
