package io.r2lock.demo;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Readable;
import io.r2dbc.spi.Statement;
import java.time.Instant;
import java.util.Objects;
import java.util.function.Function;
import org.springframework.stereotype.Repository;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The history of jobs. It is to be seen while a job runs, so it is written through the application's pool. */
@Repository
final class JobRuns {

    private final ConnectionPool pool;
    private final DemoProperties properties;

    JobRuns(ConnectionPool pool, DemoProperties properties) {
        this.pool = pool;
        this.properties = properties;
    }

    Mono<JobRun> start(String job) {
        return one(connection -> connection
                .createStatement("insert into job_runs (job, instance) values ($1, $2) returning *")
                .bind("$1", job)
                .bind("$2", properties.instance()));
    }

    Mono<JobRun> end(JobRun run) {
        return one(connection -> connection
                .createStatement("update job_runs set ended_at = clock_timestamp() where id = $1 returning *")
                .bind("$1", run.id()));
    }

    private Mono<JobRun> one(Function<Connection, Statement> statement) {
        return Mono.usingWhen(
                pool.create(),
                connection -> Flux.from(statement.apply(connection).execute())
                        .flatMap(result -> result.map(JobRuns::read))
                        .single(),
                Connection::close);
    }

    private static JobRun read(Readable row) {
        return new JobRun(
                Objects.requireNonNull(row.get("id", Long.class)),
                Objects.requireNonNull(row.get("job", String.class)),
                Objects.requireNonNull(row.get("instance", String.class)),
                Objects.requireNonNull(row.get("started_at", Instant.class)),
                row.get("ended_at", Instant.class));
    }
}
