/*
 * A header's value with secrets in it: "Bearer ${file:~/.secrets/openai}". Where a secret comes from:
 *
 *   ${file:PATH}      a file, read anew when it has changed; PATH begins with / or ~/
 *   ${env:NAME}       a variable of the environment, read once
 *   ${command:TEXT}   what /bin/sh prints for TEXT, run anew when its answer is older than GUARD_COMMAND_MS
 *
 * and $${ is ${ itself. What was read, and the whole value, are in locked memory. Line ends behind a secret are cut; a
 * secret with a line end or another control byte inside is refused, and so is an empty one. No message holds any of it.
 */
#ifndef HT_GUARD_VALUE_H
#define HT_GUARD_VALUE_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"

#define GUARD_SECRET_MAX 8192u       /* bytes of one */
#define GUARD_COMMAND_MS 300000u     /* how long a command's answer is good */
#define GUARD_COMMAND_WAIT_MS 10000u /* how long one may take */
#define GUARD_COMMAND_PAUSE_MS 5000u /* before one runs again that has failed, or whose answer was refused */

struct guard_value;

/* `user`: NULL, or the value is the password of HTTP's Basic scheme for that user. NULL with *err, and HT_EINVAL or
 * HT_ENOMEM in *rc; nothing is read yet. */
struct guard_value *guard_value_parse(const char *text, const char *user, int *rc, struct ht_errmsg *err) HT_MUST_USE;
void guard_value_free(struct guard_value **v);

/* Where commands run. ready() comes when one has ended, from the loop: `why` says that it has failed, else NULL. */
void guard_value_run_in(struct guard_value *v, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                        void *ctx);
/*
 * Reads what is not read yet, or has changed. HT_EAGAIN: a command has not answered yet, or its answer was refused and
 * the next one is awaited; ready() comes. An answer that is only old is used until there is another. Another negative
 * error with *err, which names the source: what was there before is gone then. With `run` false no command is started.
 */
int guard_value_load(struct guard_value *v, uint64_t now_ms, bool run, struct ht_errmsg *err) HT_MUST_USE;
/* The service has refused it: a command is run again at the next load, unless it has just run. */
void guard_value_stale(struct guard_value *v);

/* The whole value, good until the next load. */
struct ht_slice guard_value_text(const struct guard_value *v);
/* True when one of the secrets in it is part of `s`. */
bool guard_value_is_in(const struct guard_value *v, struct ht_slice s);
/* It holds a secret at all. */
bool guard_value_is_secret(const struct guard_value *v);

#endif
