/*
 * restart: asks a running kit to start itself anew, and waits for what comes of it. With a pid file the starter tells
 * (proc/starter.h): it writes the file anew when a kit serves, and FILE.failed when nothing came of it. Under systemd
 * it is the unit's main process, or its status.
 */
#include "cli/cli.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 20
#define LOOK_UNIT_MS 200
#define SLACK_MS 15000 /* the kit takes the sessions over once the program is ready */

static void wait_ms(int ms) { poll(NULL, 0, ms); }

/* ---- a pid file ---- */

/* A file as it stands there now; it is always replaced as a whole. */
struct seen {
    bool there;
    ino_t ino;
    struct timespec at;
};

static struct seen look_at(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return (struct seen){.there = false};
    return (struct seen){.there = true, .ino = st.st_ino, .at = st.st_mtim};
}

static bool is_new(const struct seen *before, const char *path) {
    struct seen now = look_at(path);
    return now.there && (!before->there || now.ino != before->ino || now.at.tv_sec != before->at.tv_sec ||
                         now.at.tv_nsec != before->at.tv_nsec);
}

/* The first line of a file, without what would change a terminal. False: it cannot be read; errno says why. */
static bool read_line(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, out, cap - 1);
    int e = errno;
    if (fd >= 0)
        close(fd);
    errno = e;
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return n > 0;
}

static bool read_pid(const char *path, pid_t *pid) {
    char text[32], *end;
    if (!read_line(path, text, sizeof text))
        return false;
    long n = strtol(text, &end, 10);
    *pid = (pid_t)n;
    return ht_is_digit(*text) && !*end && n > 0 && n <= INT_MAX;
}

/* A number in an old pid file may be another program's by now, which SIGUSR2 could end. A kit catches it. */
static bool catches_usr2(pid_t pid) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return errno == ENOENT ? false : true; /* it cannot be known, and kill() says more */
    text[n] = '\0';
    const char *line = strstr(text, "\nSigCgt:");
    return line && strtoull(line + 8, NULL, 16) >> (SIGUSR2 - 1) & 1;
}

static int ask(pid_t pid, const char *whose) {
    if (kill(pid, 0) != 0 && errno == ESRCH) {
        cli_complain("the kit of %s is not running: there is no process %d", whose, (int)pid);
    } else if (!catches_usr2(pid)) {
        cli_complain("process %d, which %s names, is no kit that can be restarted", (int)pid, whose);
    } else if (kill(pid, SIGUSR2) != 0) {
        cli_complain("process %d of %s cannot be signalled: %s", (int)pid, whose, strerror(errno));
    } else {
        return OPT_EXIT_OK;
    }
    return OPT_EXIT_FAILURE;
}

static int restarted(pid_t pid) {
    printf("restarted: process %d serves\n", (int)pid);
    return fflush(stdout) == 0 ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int by_file(const char *path, uint64_t until) {
    char other[PATH_MAX], why[512];
    pid_t pid;
    if ((size_t)snprintf(other, sizeof other, "%s.failed", path) >= sizeof other) {
        cli_complain("--pid-file: the name is too long");
        return OPT_EXIT_USAGE;
    }
    struct seen file = look_at(path), failed = look_at(other);
    if (!read_pid(path, &pid)) {
        cli_complain("--pid-file %s: %s", path, file.there ? "it holds no process number" : strerror(ENOENT));
        return OPT_EXIT_FAILURE;
    }
    int rc = ask(pid, path);
    if (rc != OPT_EXIT_OK)
        return rc;
    while (ht_now_ms() < until) {
        bool serves = is_new(&file, path) && read_pid(path, &pid);
        /* Second: a kit that serves on writes its number behind the reason, where another one's was. */
        if (is_new(&failed, other) && read_line(other, why, sizeof why)) {
            cli_complain("the restart failed, and the kit serves on as it was: %s", why);
            return OPT_EXIT_FAILURE;
        }
        if (serves)
            return restarted(pid);
        if (kill(pid, 0) != 0 && errno == ESRCH && !look_at(path).there) {
            cli_complain("the kit has ended meanwhile; its log says why");
            return OPT_EXIT_FAILURE;
        }
        wait_ms(LOOK_MS);
    }
    cli_complain("the kit did not say in time what came of the restart; its log does");
    return OPT_EXIT_FAILURE;
}

/* ---- a unit of systemd ---- */

/* The output of `systemctl WORDS...`. False: it could not be run, or has complained, which is on standard error. */
static bool systemctl(const char *const words[], char *out, size_t cap) {
    int fds[2], status = -1;
    size_t n = 0;
    ssize_t got;
    if (pipe(fds) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execvp(words[0], (char *const *)(uintptr_t)words);
        fprintf(stderr, "hoody-tunnel: systemctl cannot be run: %s\n", strerror(errno));
        _exit(127);
    }
    close(fds[1]);
    while (pid > 0 && n < cap - 1 && ((got = read(fds[0], out + n, cap - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    close(fds[0]);
    out[n] = '\0';
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct unit {
    long pid;
    char status[600];
};

/* The value of NAME=... in the lines of `systemctl show`. */
static void value_of(const char *text, const char *name, char *out, size_t cap) {
    size_t n = strlen(name);
    *out = '\0';
    for (const char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, name, n) == 0 && at[n] == '=')
            snprintf(out, cap, "%.*s", (int)strcspn(at + n + 1, "\n"), at + n + 1);
}

static bool show(const char *name, struct unit *u) {
    const char *const words[] = {"systemctl", "show", "--property=MainPID,StatusText", "--", name, NULL};
    char text[2048], pid[32];
    if (!systemctl(words, text, sizeof text))
        return false;
    value_of(text, "MainPID", pid, sizeof pid);
    value_of(text, "StatusText", u->status, sizeof u->status);
    u->pid = strtol(pid, NULL, 10);
    return true;
}

static int by_unit(const char *name, uint64_t until) {
    static const char failed[] = "the restart failed";
    const char *const words[] = {"systemctl", "kill", "--kill-who=main", "--signal=SIGUSR2", "--", name, NULL};
    struct unit before, now;
    char nothing[64];
    if (!show(name, &before))
        return OPT_EXIT_FAILURE;
    if (before.pid <= 0) {
        cli_complain("the unit %s is not running", name);
        return OPT_EXIT_FAILURE;
    }
    if (!catches_usr2((pid_t)before.pid)) {
        cli_complain("the main process of %s is no kit that can be restarted", name);
        return OPT_EXIT_FAILURE;
    }
    if (!systemctl(words, nothing, sizeof nothing))
        return OPT_EXIT_FAILURE;
    while (ht_now_ms() < until && show(name, &now)) {
        if (now.pid != before.pid && now.pid > 0)
            return restarted((pid_t)now.pid);
        if (strncmp(now.status, failed, sizeof failed - 1) == 0 && strcmp(now.status, before.status) != 0) {
            cli_complain("%s", now.status);
            return OPT_EXIT_FAILURE;
        }
        wait_ms(LOOK_UNIT_MS);
    }
    cli_complain("the kit did not say in time what came of the restart; `journalctl -u %s` does", name);
    return OPT_EXIT_FAILURE;
}

int cmd_restart(int argc, char **argv) {
    struct opt_restart o;
    struct ht_errmsg err;
    int rc = opt_restart_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_RESTART, &err);
    uint64_t until = ht_now_ms() + o.restart_timeout_ms + SLACK_MS;
    if (o.unit) {
        rc = by_unit(o.unit, until);
    } else if (o.pid_file) {
        rc = by_file(o.pid_file, until);
    } else {
        cli_complain("which kit? --pid-file names the file that `serve --pid-file` writes, --unit a unit of systemd");
        rc = OPT_EXIT_USAGE;
    }
    opt_restart_free(&o);
    return rc;
}
