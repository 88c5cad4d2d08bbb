package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.spi.Row;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;

/**
 * The advisory locks of the database, as the server shows them.
 *
 * @param now the server's time
 */
record ServerLocks(Instant now, List<LockInfo> locks) {

    private record Line(Instant now, @Nullable LockInfo lock) {}

    /** Not cancelled by itself; the server gives up after the limit. */
    static Mono<ServerLocks> ask(PostgresqlConnection connection, Duration limit) {
        return connection
                .createStatement(LockSql.locks(limit.toMillis()))
                .fetchSize(0)
                .execute()
                .concatMap((PostgresqlResult result) -> result.map((row, metadata) -> line(row)))
                .collectList()
                .map(lines -> new ServerLocks(
                        lines.get(0).now(),
                        lines.stream()
                                .flatMap(line -> Stream.ofNullable(line.lock()))
                                .toList()));
    }

    private static Line line(Row row) {
        Instant now = instant(ServerCheck.column(row, 0, Long.class));
        Long classid = row.get(1, Long.class);
        if (classid == null) {
            return new Line(now, null);
        }
        boolean granted = ServerCheck.column(row, 5, Boolean.class);
        Integer pid = row.get(6, Integer.class);
        LockInfo lock = new LockInfo(
                LockKey.located(
                        classid, ServerCheck.column(row, 2, Long.class), ServerCheck.column(row, 3, Boolean.class)),
                List.of(),
                ServerCheck.column(row, 4, Boolean.class) ? LockMode.EXCLUSIVE : LockMode.SHARED,
                granted ? LockInfo.State.HELD : LockInfo.State.WAITING_ON_SERVER,
                Optional.ofNullable(row.get(7, Long.class)).map(ServerLocks::instant),
                pid == null ? OptionalInt.empty() : OptionalInt.of(pid),
                Optional.ofNullable(row.get(8, String.class)).filter(name -> !name.isEmpty()),
                Optional.ofNullable(row.get(9, String.class)),
                pids(row.get(10, String.class)));
        return new Line(now, lock);
    }

    private static List<Integer> pids(@Nullable String text) {
        return text == null || text.isEmpty()
                ? List.of()
                : Stream.of(text.split(",", -1))
                        .map(Integer::valueOf)
                        .distinct()
                        .sorted()
                        .toList();
    }

    private static Instant instant(long micros) {
        return Instant.EPOCH.plus(micros, ChronoUnit.MICROS);
    }
}
