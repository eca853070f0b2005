/*
 * The value of a header field with secrets in it, such as "Bearer ${file:~/.secrets/openai}". Sources of secrets:
 *
 *   ${file:PATH}      the content of a file, read again when it has changed; PATH begins with / or ~/
 *   ${env:NAME}       an environment variable, read once
 *   ${command:TEXT}   what /bin/sh prints when it runs TEXT, run again when its answer is older than GUARD_COMMAND_MS
 *
 * $${ is ${ itself. Secrets and whole values are in locked memory (locked.h). Line ends behind a secret are removed. A
 * secret that is empty, or has a line end or another control byte inside, is refused. No message contains a secret.
 */
#ifndef HT_GUARD_VALUE_H
#define HT_GUARD_VALUE_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"

#define GUARD_SECRET_MAX 8192u       /* most bytes of a secret */
#define GUARD_COMMAND_MS 300000u     /* how long the answer of a command is used */
#define GUARD_COMMAND_WAIT_MS 10000u /* how long a command may run */
#define GUARD_COMMAND_PAUSE_MS 5000u /* least time before a command runs again that failed or was refused */

struct guard_value;

/* Parses a value; reads no secret yet. `user`: the value is the password of this user in HTTP's Basic scheme; NULL: it
 * is not. NULL: *rc is HT_EINVAL or HT_ENOMEM, and *err says why. */
struct guard_value *guard_value_parse(const char *text, const char *user, int *rc, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes the secrets. Clears the pointer. NULL is ignored. */
void guard_value_free(struct guard_value **v);

/* Sets the loop on which commands run. ready() is called from the loop when a command has ended; `why` is NULL, or says
 * that it has failed. */
void guard_value_run_in(struct guard_value *v, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                        void *ctx);
/*
 * Reads the secrets that were not read yet or have changed. 0: the value is complete. HT_EAGAIN: a command has not
 * answered yet, or runs again because its answer was refused; ready() will be called. An answer that is only old is
 * used until there is a new one. Another negative error: *err names the source, and the old secret is gone. With `run`
 * false no command is started.
 */
int guard_value_load(struct guard_value *v, uint64_t now_ms, bool run, struct ht_errmsg *err) HT_MUST_USE;
/* The service has refused the value: commands run again at the next load, unless they have just run. */
void guard_value_stale(struct guard_value *v);

/* The whole value; valid until the next load. */
struct ht_slice guard_value_text(const struct guard_value *v);
/* True when `s` contains one of the secrets. */
bool guard_value_is_in(const struct guard_value *v, struct ht_slice s);
/* True when the value has a secret at all. */
bool guard_value_is_secret(const struct guard_value *v);

#endif
