/* A program in the background of an event loop: lines go in, a count comes out. */
#include <poll.h>
#include <stdio.h>
#include <stockade.h>
#include <unistd.h>

int main(void)
{
    const char *args[] = {"sh", "-c", "echo $(wc -l) lines", NULL};
    static const char lines[] = "a\nb\nc\n";
    stockade_spec *spec = stockade_spec_new();
    stockade_process *process;
    stockade_outcome *outcome = NULL;
    stockade_error *error;
    int status, in;

    stockade_spec_set_args(spec, args);
    stockade_spec_set_stdin(spec, STOCKADE_STDIO_PIPE);
    stockade_spec_set_wall_time(spec, 10 * 1000000000ull);
    status = stockade_spec_spawn(spec, &process, &error);
    if (status == STOCKADE_OK) {
        in = stockade_process_take_stdin(process);
        if (write(in, lines, sizeof lines - 1) < 0)
            perror("write");
        close(in); /* the end of its input */
    }
    while (status == STOCKADE_OK && outcome == NULL) {
        struct pollfd fd = {stockade_process_fd(process), POLLIN, 0}; /* and your own descriptors */
        poll(&fd, 1, -1);
        status = stockade_process_poll(process, &outcome, &error);
    }
    if (status == STOCKADE_OK)
        printf("%s", stockade_outcome_stdout(outcome, NULL));
    else
        fprintf(stderr, "%s\n", stockade_error_message(error));
    stockade_outcome_free(outcome);
    stockade_error_free(error);
    stockade_process_free(process);
    stockade_spec_free(spec);
    return status;
}
