package io.r2lock.demo;

import io.r2dbc.spi.R2dbcNonTransientResourceException;
import io.r2dbc.spi.R2dbcTransientException;
import io.r2lock.AdvisoryLockException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.http.ProblemDetail;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.RestControllerAdvice;
import org.springframework.web.reactive.result.method.annotation.ResponseEntityExceptionHandler;

/** Errors as {@code application/problem+json}. */
@RestControllerAdvice
final class Problems extends ResponseEntityExceptionHandler {

    private static final Logger LOG = LoggerFactory.getLogger(Problems.class);

    /**
     * No lock in time, a lock that was lost, no database: whatever it was, asking again is right, because nothing is done
     * twice here. That includes a COMMIT whose outcome nobody knows: the repetition finds the row, or its absence.
     */
    @ExceptionHandler({
        AdvisoryLockException.class,
        R2dbcTransientException.class,
        R2dbcNonTransientResourceException.class
    })
    ResponseEntity<ProblemDetail> tryAgain(Exception failure) {
        LOG.warn("{}", failure.toString());
        return ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE)
                .header(HttpHeaders.RETRY_AFTER, "1")
                .body(ProblemDetail.forStatusAndDetail(HttpStatus.SERVICE_UNAVAILABLE, "Try again in a moment."));
    }
}
