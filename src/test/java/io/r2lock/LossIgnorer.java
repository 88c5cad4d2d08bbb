package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * A planted bug: takes a session lock with the bare driver, and works on when its connection has died. Hand-written code does
 * this, because nothing tells it.
 */
final class LossIgnorer implements LabProcess.Role {

    static final long KEY = 7;

    private static final Duration WORK = Duration.ofSeconds(3);
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    private final LabProcess process;
    private final HoldLog log;
    private final Sinks.Empty<Void> ending = Sinks.empty();
    private final Sinks.Empty<Void> ended = Sinks.empty();
    private volatile boolean running = true;

    LossIgnorer(LabProcess process, HoldLog log) {
        this.process = process;
        this.log = log;
        Mono.defer(this::one)
                .then(Mono.delay(Duration.ofMillis(10)))
                .repeat(() -> running)
                .subscribe(done -> {}, ended::tryEmitError, ended::tryEmitEmpty);
    }

    @Override
    public void command(String line) {
        throw new IllegalArgumentException(line);
    }

    @Override
    public void end() {
        running = false;
        ending.tryEmitEmpty();
        ended.asMono().block(PATIENCE);
    }

    private Mono<Void> one() {
        LoggedWork hold = new LoggedWork(log, true, List.of(KEY));
        Mono<Void> call = Mono.usingWhen(
                process.connectionFactory(process.applicationName()).create(),
                connection -> locked(connection, hold),
                connection -> connection.close().onErrorComplete());
        return hold.call(call.takeUntilOther(waited(hold)), LabHold.Outcome.ENDED);
    }

    private Mono<Void> locked(PostgresqlConnection connection, LoggedWork hold) {
        return backend(connection)
                .flatMap(pid -> Sessions.send(connection, "select pg_advisory_lock(" + KEY + ")")
                        .then(hold.work(
                                List.of(pid), () -> Mono.delay(WORK).then().or(ending.asMono()))))
                .then(Sessions.send(connection, "select pg_advisory_unlock(" + KEY + ")"));
    }

    /** A wait must not outlast the end of the process. */
    private Mono<Void> waited(LoggedWork hold) {
        return ending.asMono().then(Mono.defer(() -> hold.hasBegun() ? Mono.never() : Mono.empty()));
    }

    private static Mono<Integer> backend(PostgresqlConnection connection) {
        return connection
                .createStatement("select pg_backend_pid()")
                .execute()
                .concatMap(result -> result.map(row -> Objects.requireNonNull(row.get(0, Integer.class))))
                .next();
    }
}
