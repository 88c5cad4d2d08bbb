package io.r2lock.demo;

import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import io.r2lock.LockNotAvailableException;
import java.time.Duration;
import org.springframework.http.HttpStatus;
import org.springframework.http.ProblemDetail;
import org.springframework.web.ErrorResponseException;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.server.ResponseStatusException;
import reactor.core.publisher.Mono;

/** Runs a job unless it runs already, on this instance or on any other. */
@RestController
final class JobController {

    /** The longest run that can be asked for. */
    static final Duration LONGEST = Duration.ofSeconds(60);

    private final AdvisoryLocks locks;
    private final JobRuns runs;

    JobController(AdvisoryLocks locks, JobRuns runs) {
        this.locks = locks;
        this.runs = runs;
    }

    @PostMapping("/jobs/{name}")
    Mono<JobRun> run(@PathVariable String name, @RequestParam(defaultValue = "2000") long millis) {
        Names.check("name", name);
        Duration work = duration(millis);
        return locks.exclusive(LockKey.named("job", name))
                .noWait()
                .guard(runs.start(name).delayUntil(run -> Mono.delay(work)).flatMap(runs::end))
                .onErrorMap(LockNotAvailableException.class, busy -> busy.isKeyBusy() ? notStarted(name, busy) : busy);
    }

    private static Duration duration(long millis) {
        if (millis < 0 || millis > LONGEST.toMillis()) {
            throw new ResponseStatusException(HttpStatus.BAD_REQUEST, "millis: from 0 to " + LONGEST.toMillis());
        }
        return Duration.ofMillis(millis);
    }

    private static ErrorResponseException notStarted(String job, LockNotAvailableException busy) {
        ProblemDetail problem = ProblemDetail.forStatusAndDetail(HttpStatus.CONFLICT, busy.getMessage());
        problem.setTitle("Job not started");
        problem.setProperty("job", job);
        return new ErrorResponseException(HttpStatus.CONFLICT, problem, busy);
    }
}
