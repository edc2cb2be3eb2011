/* A host without descriptors 0 to 2, as daemons are: every stream goes where it should, and the numbers stay free. */
#include "check.h"

#include <fcntl.h>

static void input_output(void)
{
    stockade_spec *spec = shell("cat; echo err >&2");
    stockade_outcome *outcome = NULL;
    CHECK(stockade_spec_set_input(spec, "in\n", 3) == 0);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "in\n");
    CHECK_TEXT(stockade_outcome_stderr(outcome, NULL), "err\n");
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);
}

static void pipes(void)
{
    stockade_spec *spec = shell("cat");
    stockade_process *process = NULL;
    stockade_outcome *outcome = NULL;
    char line[16] = "";
    int in, out;
    CHECK(stockade_spec_set_stdin(spec, STOCKADE_STDIO_PIPE) == 0);
    CHECK(stockade_spec_set_stdout(spec, STOCKADE_STDIO_PIPE) == 0);
    WORKS(stockade_spec_spawn(spec, &process, &failed));
    in = stockade_process_take_stdin(process);
    out = stockade_process_take_stdout(process);
    CHECK(in > 2 && out > 2 && stockade_process_fd(process) > 2);
    CHECK(write(in, "through\n", 8) == 8);
    close(in);
    CHECK(read(out, line, sizeof line - 1) == 8);
    CHECK_TEXT(line, "through\n");
    close(out);
    WORKS(stockade_process_wait(process, &outcome, &failed));
    stockade_outcome_free(outcome);
    stockade_process_free(process);
    stockade_spec_free(spec);
}

int main(void)
{
    /* Failed checks must still be seen: stderr is moved out of the way. */
    int kept = fcntl(2, F_DUPFD_CLOEXEC, 100), fd;
    CHECK(kept >= 100);
    stderr = fdopen(kept, "w");
    close(0);
    close(1);
    close(2);
    input_output();
    pipes();
    input_output();
    for (fd = 0; fd <= 2; fd++)
        CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    return 0;
}
