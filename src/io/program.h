/* A program that this process starts and that stays: another daemon. For programs that are started for their output see
 * io_child (io/io.h). */
#ifndef HT_IO_PROGRAM_H
#define HT_IO_PROGRAM_H

#include "io/io.h"

struct io_program;

struct io_program_ops {
    /* A line of its standard output or its standard error, without the newline; valid during the call. A longer one
     * than IO_PROGRAM_LINE comes in pieces. May not destroy the program. */
    void (*said)(void *ctx, struct ht_slice line);
    /* It has ended, and all its lines have come. `status` is its exit status; -1: it was ended by a signal, or that is
     * not known. `text` tells a person, such as "it ended with status 3"; it is valid during the call. The io_program
     * no longer exists. */
    void (*ended)(void *ctx, int status, const char *text);
};

#define IO_PROGRAM_LINE 2048

/*
 * Starts a program; argv[0] is a path, and the last element NULL. It leads a process group of its own, so that a signal
 * of the terminal reaches this process alone. Its standard input is /dev/null, and signals have their usual effects. It
 * gets SIGTERM when this process dies, in whatever way. No callback is called before this returns. NULL: it cannot be
 * started, and *err says why.
 */
struct io_program *io_program_start(struct io_loop *loop, const char *const argv[], const struct io_program_ops *ops,
                                    void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* The same, with nothing in its environment but `env`, texts NAME=VALUE and NULL, which are not kept. Files that it
 * makes are for this user alone. */
struct io_program *io_program_start_env(struct io_loop *loop, const char *const argv[], const char *const env[],
                                        const struct io_program_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* Sends a signal to the program itself, which does not miss it: its number is nobody else's as long as `p` exists. */
void io_program_signal(struct io_program *p, int signo);
pid_t io_program_pid(const struct io_program *p);
/*
 * Ends it: SIGTERM to the program, and when it has ended, or after `patience_ms`, SIGKILL to what is left of its group.
 * Waits for that; no callback is called. Clears the pointer. NULL is ignored.
 */
void io_program_stop(struct io_program **p, unsigned patience_ms);

#endif
