package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Row;
import java.util.HashMap;
import java.util.Map;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import reactor.core.publisher.Mono;

/**
 * One connection that heartbeats go over: {@code IDLE ⇄ ASKING}, until it dies. Used by the heartbeat's thread alone, but for the answers,
 * which it is told of by {@link Listener}.
 */
final class Pulse {

    /** Told on the connection's event loop. */
    record Listener(BiConsumer<Pulse, Answer> answered, Consumer<Pulse> died) {}

    /** When a backend and its transaction began, in microseconds since 1970; 0 where the server does not show it. */
    record Backend(long start, long transactionStart) {}

    /** What the server says of those backends that live. */
    record Answer(boolean standby, Map<Integer, Backend> backends) {}

    private final PostgresqlConnection wire;
    private final Listener listener;
    private final LoopPing loop;
    private boolean asking;
    private long askedAt;

    Pulse(PostgresqlConnection wire, Listener listener) {
        this.wire = wire;
        this.listener = listener;
        this.loop = new LoopPing(LockConnection.loopOf(wire));
        wire.getNotifications().subscribe(ignored -> {}, error -> die(), this::die);
    }

    private void die() {
        listener.died().accept(this);
    }

    void ask(String sql, long now) {
        asking = true;
        askedAt = now;
        ServerCheck.ask(wire, sql, Pulse::answer)
                .subscribe(answer -> listener.answered().accept(this, answer), error -> {
                    // the server may have refused the statement only, and would keep the connection
                    close().subscribe();
                    die();
                });
    }

    /** {@code pid:start:start,…} */
    private static Answer answer(Row row) {
        Map<Integer, Backend> backends = new HashMap<>();
        String list = ServerCheck.column(row, 1, String.class);
        if (!list.isEmpty()) {
            for (String backend : list.split(",", -1)) {
                String[] parts = backend.split(":", -1);
                backends.put(Integer.valueOf(parts[0]), new Backend(number(parts[1]), number(parts[2])));
            }
        }
        return new Answer(ServerCheck.column(row, 0, Boolean.class), backends);
    }

    private static long number(String text) {
        return text.isEmpty() ? 0 : Long.parseLong(text);
    }

    void isAnswered() {
        asking = false;
    }

    boolean isAsking() {
        return asking;
    }

    long askedAt() {
        return askedAt;
    }

    /** No answer can have been read, whatever the server sent: something else keeps the thread of this connection busy. */
    boolean isStalled(long now, long nanos) {
        return asking && loop.isStalled(now, nanos);
    }

    void look(long now) {
        if (asking) {
            loop.look(now);
        }
    }

    Mono<Void> close() {
        return wire.close().onErrorComplete();
    }
}
