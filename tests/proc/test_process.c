/* Processes as /proc shows them: this one, one with an odd name, one that ended, one that nobody looked for yet. */
#include "proc/process.h"
#include "support/tap.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void ourselves(void) {
    struct proc_process self, again;
    CU_ASSERT_EQUAL_FATAL(proc_process_look((uint64_t)getpid(), &self), HT_OK);
    CU_ASSERT_EQUAL(self.state, 'R');
    CU_ASSERT(self.started > 0);
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)getpid(), &again), HT_OK);
    CU_ASSERT_EQUAL(again.started, self.started);
    CU_ASSERT_EQUAL(proc_process_look(0, &self), HT_ECLOSED);
    CU_ASSERT_EQUAL(proc_process_look(UINT64_MAX, &self), HT_ECLOSED);
}

static void a_name_with_brackets_and_spaces(void) {
    struct proc_process before, after;
    char name[16];
    CU_ASSERT_EQUAL_FATAL(prctl(PR_GET_NAME, name), 0);
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)getpid(), &before), HT_OK);
    CU_ASSERT_EQUAL_FATAL(prctl(PR_SET_NAME, "a) Z 1 (b 2 3"), 0);
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)getpid(), &after), HT_OK);
    CU_ASSERT_EQUAL(after.state, 'R');
    CU_ASSERT_EQUAL(after.started, before.started);
    CU_ASSERT_EQUAL(prctl(PR_SET_NAME, name), 0);
}

static void one_that_ended(void) {
    struct proc_process p;
    siginfo_t info;
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0)
        _exit(0);
    CU_ASSERT_EQUAL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)pid, &p), HT_OK);
    CU_ASSERT_EQUAL(p.state, 'Z');
    CU_ASSERT_EQUAL(waitpid(pid, NULL, 0), pid);
    CU_ASSERT_EQUAL(proc_process_look((uint64_t)pid, &p), HT_ECLOSED);
}

static void the_boot_id(void) {
    char one[PROC_BOOT_ID], two[PROC_BOOT_ID];
    CU_ASSERT_STRING_EQUAL(proc_boot_id(one), proc_boot_id(two));
    CU_ASSERT_EQUAL(strlen(one), 36);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"ourselves", ourselves},
        {"a name with brackets and spaces", a_name_with_brackets_and_spaces},
        {"one that ended", one_that_ended},
        {"the boot id", the_boot_id},
        {NULL, NULL},
    };
    return tap_main("processes", tests);
}
