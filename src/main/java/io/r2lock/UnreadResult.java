package io.r2lock;

import io.r2dbc.spi.Result;
import java.util.concurrent.atomic.AtomicReference;
import reactor.core.publisher.Flux;

/**
 * Who reads a result of the driver: {@code UNREAD ──▶ READ} by the user, or {@code UNREAD ──▶ DRAINED} by the end of the hold.
 *
 * <p>Somebody must: rows that nobody reads keep their buffers, and many of them block the connection. A result that was emitted
 * may yet be read by a subscriber that has cancelled ({@code Mono.from(statement.execute())} cancels, then reads), so that not
 * before the hold ends is it known that it will not be.
 */
final class UnreadResult {

    private enum State {
        UNREAD,
        READ,
        DRAINED
    }

    private final SqlHold hold;
    private final Result driver;
    private final AtomicReference<State> state = new AtomicReference<>(State.UNREAD);

    /** One that nothing forces anybody to read, because reading it would send its statement. */
    UnreadResult(SqlHold hold, Result driver) {
        this.hold = hold;
        this.driver = driver;
    }

    /** Entered first and the hold looked at after; the hold's end does the opposite. */
    static UnreadResult of(SqlHold hold, Result driver) {
        UnreadResult result = new UnreadResult(hold, driver);
        hold.lane().unread(result);
        if (!hold.isLive()) {
            result.drain();
        }
        return result;
    }

    /** Whether the user may read it. */
    boolean take() {
        if (state.compareAndSet(State.UNREAD, State.READ)) {
            hold.lane().read(this);
        }
        return state.get() == State.READ;
    }

    /** Nobody will read it: reads it to its end, unless somebody has begun to. */
    void drain() {
        if (state.compareAndSet(State.UNREAD, State.DRAINED)) {
            hold.lane().read(this);
            Flux.from(driver.getRowsUpdated()).subscribe(count -> {}, error -> {});
        }
    }

    AdvisoryLockException lost() {
        return hold.lost("it ended before a result of its connection was read", null);
    }
}
