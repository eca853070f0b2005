/*
 * The starter, with this program as the one that is started anew: `test_starter kit MODE FOLDER` plays a kit, whose
 * lines the test reads.
 */
#include "base/clock.h"
#include "proc/sandbox.h"
#include "proc/starter.h"
#include "proc/title.h"
#include "support/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the kit ---- */

static struct proc_starter starter;

static void say(const char *fmt, ...) HT_PRINTF(1, 2);
static void say(const char *fmt, ...) {
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    line[n] = '\n';
    if (write(1, line, (size_t)n + 1) < 0)
        _exit(9);
}

static void next(struct proc_starter_event *e) {
    int rc;
    while ((rc = proc_starter_next(&starter, e)) == HT_EAGAIN) {
        struct pollfd p = {.fd = starter.fd, .events = POLLIN};
        poll(&p, 1, -1);
    }
    if (rc == HT_OK)
        return;
    say("the starter is gone");
    _exit(0);
}

static void hear(int channel, char *out, size_t cap) {
    struct pollfd p = {.fd = channel, .events = POLLIN};
    poll(&p, 1, PATIENCE_MS);
    ssize_t n = recv(channel, out, cap - 1, 0);
    out[n > 0 ? n : 0] = '\0';
}

static volatile sig_atomic_t termed;
static void on_term(int signo) { termed = signo; }

/* The status to end with: `good` behind a SIGTERM. */
static int until_termed(int good) {
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    while (!termed && ht_now_ms() < until)
        usleep(1000);
    return termed ? good : 9;
}

static int count_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* A kit that was started: tells the one before about itself, and does what the mode says. */
static int second(const char *mode, int channel) {
    char cwd[PATH_MAX], text[PATH_MAX + 200];
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    struct sigaction term;
    sigaction(SIGTERM, NULL, &term);
    if (strcmp(mode, "dies") == 0)
        return 7;
    snprintf(text, sizeof text, "cwd %s fds %d term %d blocked %d nnp %d env %s %s watchdog %d",
             getcwd(cwd, sizeof cwd), count_fds(), term.sa_handler != SIG_DFL, sigismember(&blocked, SIGTERM) == 1,
             prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), getenv("TEST_WORD") ? getenv("TEST_WORD") : "-",
             getenv("LISTEN_FDS") ? "LISTEN_FDS" : "-",
             getenv("WATCHDOG_PID") && strtol(getenv("WATCHDOG_PID"), NULL, 10) == getpid());
    if (send(channel, text, strlen(text), 0) < 0)
        return 9;
    if (strcmp(mode, "hangs") == 0)
        for (;;)
            pause();
    if (strcmp(mode, "parent-late") == 0) {
        signal(SIGTERM, on_term);
        hear(channel, text, sizeof text);
        (void)!proc_starter_serving(&starter);
        int rc = until_termed(6);
        say("second is told: %d", rc);
        return rc;
    }
    if (strncmp(mode, "parent-takes-back", 17) == 0) {
        hear(channel, text, sizeof text);
        (void)!proc_starter_serving(&starter);
        (void)!send(channel, "second serves", 13, 0);
        for (;;)
            pause();
    }
    if (starter.parent) {
        (void)!proc_starter_serving(&starter);
        hear(channel, text, sizeof text); /* until the one before is gone */
        signal(SIGTERM, on_term);
        say("second serves as %d", starter.number == getppid());
        return until_termed(5);
    }
    hear(channel, text, sizeof text);
    say("second heard %s", text);
    return 0;
}

/* As a kit writes it that serves. */
static bool others_number(const char *pid_file) {
    int fd = open(pid_file, O_WRONLY | O_TRUNC);
    bool good = fd >= 0 && write(fd, "1\n", 2) == 2;
    close(fd);
    return good;
}

static int kit(const char *mode, const char *folder) {
    char pid_file[PATH_MAX], text[PATH_MAX + 200];
    struct proc_starter_event e;
    struct ht_errmsg err = {""};
    int channel = proc_starter_channel(&err);
    bool parent = strncmp(mode, "parent", 6) == 0;
    snprintf(pid_file, sizeof pid_file, "%s/pid", folder);
    if (channel < -1) {
        say("refused: %s", err.text);
        return 3;
    }
    if (channel >= 0 && !parent)
        return second(mode, channel);
    struct proc_starter_config cfg = {.keep_pid = parent, .pid_file = pid_file};
    if (proc_starter_begin(&starter, &cfg, &err) < 0) {
        say("refused: %s", err.text);
        return 3;
    }
    if (channel >= 0)
        return second(mode, channel);
    if (strcmp(mode, "sandboxed") == 0 &&
        (proc_sandbox_no_new_privs(&err) < 0 || proc_sandbox_filter_calls(&(struct proc_sandbox_calls){0}, &err) < 0)) {
        say("no sandbox: %s", err.text);
        return 3;
    }
    if (proc_starter_serving(&starter) < 0)
        return 8;
    if (strcmp(mode, "parent-dies") == 0)
        raise(SIGABRT);
    if (proc_starter_start(&starter) < 0)
        return 8;
    next(&e);
    if (e.said == PROC_WARNING) {
        say("warning: %s", e.text);
        next(&e);
    }
    if (e.said == PROC_NOT_STARTED) {
        say("not started: %s", e.text);
        return 0;
    }
    if (strcmp(mode, "dies") != 0) {
        hear(e.fd, text, sizeof text);
        say("started: %s", text);
    }
    pid_t pid = e.pid;
    if (strcmp(mode, "parent-late") == 0) { /* which hands over when the signal comes */
        signal(SIGTERM, on_term);
        say("first can be told");
        if (until_termed(0) != 0)
            return 9;
    }
    if (strncmp(mode, "parent-takes-back", 17) == 0) {
        bool late = strcmp(mode, "parent-takes-back-late") == 0;
        signal(SIGTERM, on_term);
        if (late)
            kill(getppid(), SIGSTOP); /* it hears both at once */
        (void)!send(e.fd, "serve", 5, 0);
        hear(e.fd, text, sizeof text);
        say("%s", text);
        proc_starter_kill(&starter);
        if (late)
            kill(getppid(), SIGCONT);
        next(&e);
        say("%s: %s", e.said == PROC_ENDED && e.pid == pid ? "ended" : "?", e.text);
        return until_termed(4);
    }
    if (strcmp(mode, "hangs") == 0) {
        if (proc_starter_start(&starter) < 0)
            return 8;
        next(&e);
        say("again: %s", e.said == PROC_NOT_STARTED ? e.text : "?");
        proc_starter_kill(&starter);
    }
    if (strcmp(mode, "hangs") == 0 || strcmp(mode, "dies") == 0) {
        next(&e);
        say("%s: %s", e.said == PROC_ENDED && e.pid == pid ? "ended" : "?", e.text);
        if (!others_number(pid_file))
            return 9;
        proc_starter_failed(&starter, "it did not start");
        proc_starter_sync(&starter, 0);
        next(&e); /* none comes: the test kills this process */
    }
    if (!starter.parent && send(e.fd, "goodbye", 7, 0) < 0)
        return 9;
    if (strcmp(mode, "leaves") == 0 && proc_starter_left(&starter) < 0)
        return 8;
    return 0;
}

/* ---- the test ---- */

static char folder[] = "/tmp/ht-starter-XXXXXX";

struct run {
    pid_t pid;
    FILE *lines;
};

static void run(struct run *r, const char *mode) {
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
    fflush(stdout);
    r->pid = fork();
    CU_ASSERT_FATAL(r->pid >= 0);
    if (r->pid == 0) {
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        self[n > 0 ? n : 0] = '\0';
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        setenv("TEST_WORD", "word", 1);
        setenv("LISTEN_FDS", "0", 1);
        char own[24];
        snprintf(own, sizeof own, "%d", (int)getpid());
        setenv("WATCHDOG_PID", own, 1);
        if (chdir(folder) != 0)
            _exit(9);
        execl(self, self, "kit", mode, folder, (char *)NULL);
        _exit(9);
    }
    close(fds[1]);
    r->lines = fdopen(fds[0], "r");
    setvbuf(r->lines, NULL, _IONBF, 0); /* poll() tells what is left */
}

static void expect(struct run *r, const char *line) {
    char got[1024] = "", want[1024];
    struct pollfd p = {.fd = fileno(r->lines), .events = POLLIN};
    CU_ASSERT(poll(&p, 1, PATIENCE_MS) == 1);
    if (!fgets(got, sizeof got, r->lines))
        got[0] = '\0';
    snprintf(want, sizeof want, "%s\n", line);
    CU_ASSERT_STRING_EQUAL(got, want);
    if (strcmp(got, want) != 0)
        printf("# got %s# not %s", got, want);
}

/* Everything that has the output open has ended. */
static void expect_end(struct run *r) {
    char got[1024];
    CU_ASSERT_PTR_NULL(fgets(got, sizeof got, r->lines));
    fclose(r->lines);
}

static int status_of(pid_t pid) {
    int status = -1;
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    return status;
}

static bool file_is(const char *name, const char *text) {
    char path[PATH_MAX], got[300] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return text == NULL;
    ssize_t n = read(fd, got, sizeof got - 1);
    close(fd);
    return text && n >= 0 && strcmp(got, text) == 0;
}

static void file_becomes(const char *name, const char *text) {
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    while (!file_is(name, text) && ht_now_ms() < until)
        usleep(1000);
    CU_ASSERT(file_is(name, text));
}

static const char *as_started(bool parent) {
    static char text[PATH_MAX + 200];
    snprintf(text, sizeof text, "started: cwd %s fds %d term 0 blocked 0 nnp 0 env word - watchdog 1", folder,
             parent ? 5 : 4);
    return text;
}

/* The sandbox of the one that asks does not reach the one that is started. */
static void starts_the_program_as_it_was(void) {
    static const char *const modes[] = {"plain", "sandboxed"};
    for (size_t i = 0; i < HT_ARRAY_LEN(modes); i++) {
        struct run r;
        char pid[24];
        run(&r, modes[i]);
        snprintf(pid, sizeof pid, "%d\n", (int)r.pid);
        expect(&r, as_started(false));
        expect(&r, "second heard goodbye");
        CU_ASSERT_EQUAL(status_of(r.pid), 0);
        expect_end(&r);
        CU_ASSERT(file_is("pid", NULL)); /* the starter has taken it away, and is gone */
    }
}

/* Whether the kit that serves now has written the file by then or not. */
static void one_that_has_left_leaves_the_file(void) {
    struct run r;
    char pid[24], path[PATH_MAX];
    run(&r, "leaves");
    snprintf(pid, sizeof pid, "%d\n", (int)r.pid);
    expect(&r, as_started(false));
    expect(&r, "second heard goodbye");
    CU_ASSERT_EQUAL(status_of(r.pid), 0);
    expect_end(&r);
    CU_ASSERT(file_is("pid", pid));
    snprintf(path, sizeof path, "%s/pid", folder);
    CU_ASSERT_EQUAL(unlink(path), 0);
}

static void tells_of_one_that_ends(void) {
    struct run r;
    char pid[24];
    run(&r, "dies");
    snprintf(pid, sizeof pid, "%d\n", (int)r.pid);
    expect(&r, "ended: ended with status 7");
    file_becomes("pid.failed", "it did not start\n");
    file_becomes("pid", pid); /* again: the other one had written its own there */
    kill(r.pid, SIGKILL);
    (void)status_of(r.pid);
    expect_end(&r); /* the starter does not outlive it */
    CU_ASSERT(file_is("pid", NULL));
}

static void kills_one_that_hangs(void) {
    struct run r;
    run(&r, "hangs");
    expect(&r, as_started(false));
    expect(&r, "again: one is being started already");
    expect(&r, "ended: was killed by signal 9");
    kill(r.pid, SIGKILL);
    (void)status_of(r.pid);
    expect_end(&r);
}

static void a_parent_keeps_its_number(void) {
    struct run r;
    char pid[24];
    run(&r, "parent");
    snprintf(pid, sizeof pid, "%d\n", (int)r.pid);
    expect(&r, as_started(true));
    expect(&r, "second serves as 1");
    CU_ASSERT(file_is("pid", pid));
    CU_ASSERT_EQUAL(kill(r.pid, SIGTERM), 0); /* is passed on to the present kit */
    int status = status_of(r.pid);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    expect_end(&r);
    CU_ASSERT(file_is("pid", NULL));
}

/* The signal is for the service, whoever it is by the time that it is heard. */
static void a_parent_is_told_to_end_while_its_kits_change(void) {
    struct run r;
    run(&r, "parent-late");
    expect(&r, as_started(true));
    expect(&r, "first can be told");
    CU_ASSERT_EQUAL(kill(r.pid, SIGTERM), 0);
    expect(&r, "second is told: 6");
    int status = status_of(r.pid);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 6);
    expect_end(&r);
    CU_ASSERT(file_is("pid", NULL));
}

static void a_kit_takes_the_service_back(void) {
    static const char *const modes[] = {"parent-takes-back", "parent-takes-back-late"};
    for (size_t i = 0; i < HT_ARRAY_LEN(modes); i++) {
        struct run r;
        run(&r, modes[i]);
        expect(&r, as_started(true));
        expect(&r, "second serves");
        expect(&r, "ended: was killed by signal 9");
        CU_ASSERT_EQUAL(kill(r.pid, SIGTERM), 0);
        int status = status_of(r.pid);
        CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 4);
        expect_end(&r);
    }
}

static void a_parent_ends_as_its_kit(void) {
    struct run r;
    run(&r, "parent-dies");
    int status = status_of(r.pid);
    CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    expect_end(&r);
}

static void a_pid_file_that_cannot_be(void) {
    struct run r;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pid", folder);
    CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
    run(&r, "plain");
    char want[PATH_MAX + 100];
    snprintf(want, sizeof want, "warning: --pid-file %s: Is a directory", path);
    expect(&r, want);
    expect(&r, as_started(false));
    expect(&r, "second heard goodbye");
    CU_ASSERT_EQUAL(status_of(r.pid), 0);
    expect_end(&r);
    CU_ASSERT_EQUAL(rmdir(path), 0);
}

static void words_that_no_starter_says(void) {
    static const char *const words[] = {"", "x", "1", "-3", "3x", "99999999999", "200", "0"};
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(words); i++) {
        setenv("HOODY_TUNNEL_HANDOFF", words[i], 1);
        CU_ASSERT_EQUAL(proc_starter_channel(&err), HT_EINVAL);
        CU_ASSERT_PTR_NULL(getenv("HOODY_TUNNEL_HANDOFF"));
        CU_ASSERT_EQUAL(proc_starter_channel(&err), -1);
    }
}

int main(int argc, char **argv) {
    static const struct tap_test tests[] = {
        {"starts the program as it was", starts_the_program_as_it_was},
        {"one that has left leaves the file", one_that_has_left_leaves_the_file},
        {"tells of one that ends", tells_of_one_that_ends},
        {"kills one that hangs", kills_one_that_hangs},
        {"a parent keeps its number", a_parent_keeps_its_number},
        {"a parent is told to end while its kits change", a_parent_is_told_to_end_while_its_kits_change},
        {"a kit takes the service back", a_kit_takes_the_service_back},
        {"a parent ends as its kit", a_parent_ends_as_its_kit},
        {"a pid file that cannot be", a_pid_file_that_cannot_be},
        {"words that no starter says", words_that_no_starter_says},
        {NULL, NULL},
    };
    proc_title_begin(argc, argv);
    if (argc == 4 && strcmp(argv[1], "kit") == 0)
        return kit(argv[2], argv[3]);
    if (!mkdtemp(folder))
        return 1;
    int rc = tap_main("the starter", tests);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pid.failed", folder);
    unlink(path);
    rmdir(folder);
    return rc;
}
