/*
 * What the two halves of the starter share: starter.c is the kit's, starter_run.c the starter's.
 *
 * A message is a letter, a process number in the machine's order, and a text to the message's end. A parent may be
 * older than its kit, so a letter never changes its meaning, and an unknown one is ignored.
 */
#ifndef HT_PROC_STARTER_PRIV_H
#define HT_PROC_STARTER_PRIV_H

#include "proc/starter.h"

#define STARTER_TEXT (sizeof((struct proc_starter_event *)0)->text)
#define STARTER_MESSAGE (1 + sizeof(uint32_t) + STARTER_TEXT)

/* from the kit */
#define ASK_START 'S'
#define ASK_KILL 'K'
#define ASK_SERVING 'R'
#define ASK_LEFT 'L'
#define ASK_FAILED 'F'
#define ASK_SYNC 'Y' /* the process number is that of the file */
/* from the starter */
#define SAY_STARTED 's'
#define SAY_NOT_STARTED 'n'
#define SAY_ENDED 'e'
#define SAY_WARNING 'w'

/* In the environment of a program that was started: the numbers of its sockets to the kit, and to a parent. */
#define ENV_CHANNEL "HOODY_TUNNEL_HANDOFF"
#define ENV_PARENT "HOODY_TUNNEL_STARTER"

/* The program as it was started. */
struct starter_program {
    char *path;
    char **argv;
    char **env; /* without what belongs to one process alone */
    char *texts;
};

struct starter_config {
    struct starter_program program;
    bool parent; /* the other half is our child */
    char *pid_file;
    struct proc_slots slots;
    int fd; /* to the kit */
    pid_t kit;
};

/* Sends a message with a descriptor, or with none (-1). 0 or HT_EIO. */
int starter_send(int socket, char letter, uint32_t number, const char *text, int fd);
/* Never returns. */
_Noreturn void starter_run(const struct starter_config *cfg);

#endif
