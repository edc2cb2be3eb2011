/* Hosts with manners of their own about children: a SIGCHLD handler, SIGCHLD ignored, a thread that reaps whatever it
 * finds, and waits that must end when the host's own children have. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static volatile sig_atomic_t chld, stop;

static void count(int signal)
{
    (void)signal;
    chld++;
}

static void runs(void)
{
    stockade_outcome *outcome;
    int i;
    for (i = 0; i < 10; i++) {
        outcome = run_shell("(exit 1); sleep 0.01 & echo out; exit 5");
        CHECK(stockade_outcome_returncode(outcome) == 5);
        CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "out\n");
        stockade_outcome_free(outcome);
    }
}

/* As init processes and some servers do. */
static void *reap_everything(void *unused)
{
    (void)unused;
    while (!stop) {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        usleep(200);
    }
    return NULL;
}

int main(void)
{
    struct sigaction action, now;
    pthread_t reaper;
    int status, i;
    pid_t child;

    /* No SIGCHLD reaches the host, and its handler stays. */
    memset(&action, 0, sizeof action);
    action.sa_handler = count;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    runs();
    CHECK(chld == 0);
    CHECK(sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == count);

    action.sa_handler = SIG_IGN;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    runs();
    CHECK(sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN);

    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
    CHECK(pthread_create(&reaper, NULL, reap_everything, NULL) == 0);
    runs();
    stop = 1;
    CHECK(pthread_join(reaper, NULL) == 0);

    /* waitpid(-1) finds the host's own children, and never ours. */
    for (i = 0; i < 3; i++) {
        child = fork();
        CHECK(child >= 0);
        if (child == 0)
            _exit(7);
        runs();
        CHECK(waitpid(-1, &status, 0) == child && WEXITSTATUS(status) == 7);
        CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
    }
    return 0;
}
