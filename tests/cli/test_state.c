/* `ready --state-file`: what it says about each file, and about what became of whoever wrote it. */
#include "cli/capture.h"
#include "cli/cli.h"
#include "proc/process.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[] = "/tmp/hoody-tunnel-state-XXXXXX", path[64];
static char boot[PROC_BOOT_ID];
static struct capture seen;

/* Asks; wants the exit code, and `says` in its one line on the right stream. */
static void expect(int code, bool json, const char *says) {
    capture_begin(&seen);
    int got = cli_state_ask(path, json);
    capture_end(&seen);
    const char *text = code == OPT_EXIT_OK ? seen.out : seen.err, *other = code == OPT_EXIT_OK ? seen.err : seen.out;
    if (got != code || !strstr(text, says) || *other)
        printf("# %d, not %d with '%s': %s%s\n", got, code, says, seen.out, seen.err);
    CU_ASSERT_EQUAL(got, code);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, says));
    CU_ASSERT_STRING_EQUAL(other, "");
    const char *end = strchr(text, '\n');
    CU_ASSERT(end && end[1] == '\0');
}

static void put(const char *text, size_t n) {
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(text, 1, n, f), n);
    CU_ASSERT_EQUAL(fclose(f), 0);
}

static void put_state(uint64_t pid, uint64_t started, const char *boot_id) {
    char text[512];
    int n = snprintf(text, sizeof text,
                     "{\"pid\":%" PRIu64 ",\"startTime\":%" PRIu64
                     ",\"bootId\":\"%s\",\"ports\":2,\"since\":\"2026-01-31T12:00:00.000Z\",\"later\":[1]}\n",
                     pid, started, boot_id);
    put(text, (size_t)n);
}

static uint64_t started(pid_t pid) {
    struct proc_process p = {0};
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)pid, &p), HT_OK);
    return p.started;
}

static void a_driver_that_stands_is_ready(void) {
    put_state((uint64_t)getpid(), started(getpid()), boot);
    expect(OPT_EXIT_OK, false, "is connected, with 2 ports, since 2026-01-31T12:00:00.000Z\n");
    expect(OPT_EXIT_OK, true, "\"ports\":2,\"since\":\"2026-01-31T12:00:00.000Z\",\"later\":[1]}\n");
}

static void no_such_file(void) {
    unlink(path);
    expect(OPT_EXIT_FAILURE, false, "not ready: there is no /tmp/");
    expect(OPT_EXIT_FAILURE, true, "not ready: there is no /tmp/");
}

static void no_file_of_a_driver(void) {
    static char most[2048];
    static const char *const texts[] = {
        "",
        "\n",
        "12\n",
        "http://127.0.0.1:3000\n",
        "{}",
        "{\"pid\":1}",
        "{\"pid\":0,\"startTime\":1,\"bootId\":\"\",\"ports\":1,\"since\":\"\"}",
        "{\"pid\":-1,\"startTime\":1,\"bootId\":\"\",\"ports\":1,\"since\":\"\"}",
        "{\"pid\":\"1\",\"startTime\":1,\"bootId\":\"\",\"ports\":1,\"since\":\"\"}",
        "{\"pid\":1,\"startTime\":1.5,\"bootId\":\"\",\"ports\":1,\"since\":\"\"}",
        "{\"pid\":1,\"startTime\":1,\"bootId\":null,\"ports\":1,\"since\":\"\"}",
        "{\"pid\":1,\"startTime\":1,\"bootId\":\"\",\"ports\":1,\"since\":\"\"",
        "{\"pid\":1,\"startTime\":1,\"bootId\":\"\",\"ports\":1,\"since\":\"\"}}",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        put(texts[i], strlen(texts[i]));
        expect(OPT_EXIT_CONFIG, false, "is not what a driver writes");
    }
    put_state((uint64_t)getpid(), started(getpid()), boot);
    FILE *f = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    size_t n = fread(most, 1, sizeof most, f);
    fclose(f);
    memset(most + n, ' ', sizeof most - n); /* good, but for its length */
    put(most, sizeof most);
    expect(OPT_EXIT_CONFIG, false, "is not what a driver writes");
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
    expect(OPT_EXIT_CONFIG, false, "it is not a regular file");
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0700), 0);
    expect(OPT_EXIT_CONFIG, false, "it is not a regular file");
    rmdir(path);
}

static void somebody_else(void) {
    put_state((uint64_t)getpid(), started(getpid()) - 1, boot);
    expect(OPT_EXIT_FAILURE, false, "another process has its number now");
    put_state((uint64_t)getpid(), started(getpid()), "00000000-0000-0000-0000-000000000000");
    expect(OPT_EXIT_FAILURE, false, "ended when the machine did");
}

static void a_stopped_or_killed_driver_is_not_ready(void) {
    siginfo_t info;
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    while (pid == 0)
        pause();
    uint64_t when = started(pid);
    put_state((uint64_t)pid, when, boot);
    expect(OPT_EXIT_OK, false, "ready: process ");
    CU_ASSERT_EQUAL(kill(pid, SIGSTOP), 0);
    CU_ASSERT_EQUAL(waitid(P_PID, (id_t)pid, &info, WSTOPPED), 0);
    expect(OPT_EXIT_FAILURE, false, "is stopped; SIGCONT lets it go on");
    CU_ASSERT_EQUAL(kill(pid, SIGKILL), 0);
    CU_ASSERT_EQUAL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    expect(OPT_EXIT_FAILURE, false, "was killed or has crashed"); /* nobody has looked for it yet */
    CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
    expect(OPT_EXIT_FAILURE, false, "was killed or has crashed");
}

int main(void) {
    static const struct tap_test tests[] = {
        {"ready is 0 while the driver is connected and has its ports", a_driver_that_stands_is_ready},
        {"ready is 1 without a state file", no_such_file},
        {"ready is 1 for a file that no driver has written", no_file_of_a_driver},
        {"ready is 1 for another process with the same number, or after a restart of the machine", somebody_else},
        {"ready is 1 for a driver that is stopped or was killed", a_stopped_or_killed_driver_is_not_ready},
        {NULL, NULL},
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/state", folder);
    proc_boot_id(boot);
    int rc = tap_main("ready --state-file", tests);
    unlink(path);
    rmdir(folder);
    return rc;
}
