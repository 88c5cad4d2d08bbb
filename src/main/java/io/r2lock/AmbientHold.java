package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/**
 * A hold in an ambient transaction. Its end is the end of a turn: the lock stays until that transaction ends, and so commit and release
 * are the same, but that SQL of the work may have freed the lock before, and then the end is no success.
 *
 * <pre>
 *   HELD ──▶ COMMITTED ── a statement may have freed it ──▶ asks the server ──▶ ended, or lost
 *     ├────▶ RELEASED ──▶ ended
 *     └────▶ LOST     ──▶ ended
 * </pre>
 *
 * <p>The connection is somebody else's. Nothing on it is cancelled, and nothing is closed: statements of work that was ended run on, and
 * nobody hears of them. A connection that closes is told, and the {@link Heartbeat} looks after its backend, and whether that is in the
 * same transaction still; what the owner does in that, as going back to a savepoint older than the lock, is not seen.
 */
final class AmbientHold extends SqlHold implements Watched {

    private enum State {
        HELD,
        COMMITTED,
        RELEASED,
        LOST
    }

    private final AmbientAcquire own;
    private final int pid;
    private final boolean hadIdBefore;
    private final Lane lane;
    private final int freeingBefore;
    private final HeldConnection view = new HeldConnection(this);
    private final Disposable.Swap closes = Disposables.swap();
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);
    private volatile boolean usable = true;

    AmbientHold(AmbientAcquire acquire, int pid, boolean hadIdBefore) {
        super(acquire);
        this.own = acquire;
        this.pid = pid;
        this.hadIdBefore = hadIdBefore;
        this.lane = new Lane(acquire.scope().freeing());
        this.freeingBefore = lane.freeing();
    }

    /** Who the heartbeat tells. */
    private final LockConnection.Holder holder = new LockConnection.Holder() {
        @Override
        public void lose(String why) {
            AmbientHold.this.lose(why, null);
        }

        @Override
        public boolean inTransaction() {
            return true;
        }
    };

    /** From now on it is told when the connection closes, which may be at once, and when the backend is gone. */
    void watch() {
        client.ambientHolds().add(this);
        if (!isOpen()) {
            client.ambientHolds().remove(this);
        }
        closes.update(wire().getNotifications().subscribe(ignored -> {}, error -> closed(), this::closed));
    }

    private void closed() {
        usable = false;
        // elsewhere, because the work's own code runs then, which may block this event loop
        Losses.tell(() -> lose("its connection closed", null));
    }

    @Override
    AmbientHold root() {
        return this;
    }

    /** Those of the whole transaction: what asks for keys in it takes turns there, whether it stands in this hold or not. */
    @Override
    TurnWaits turns() {
        return own.scope().turns();
    }

    @Override
    public Connection connection() {
        return view;
    }

    @Override
    public int backendPid() {
        return pid;
    }

    @Override
    public LockConnection.@Nullable Holder holder() {
        return isOpen() ? holder : null;
    }

    @Override
    public int pid() {
        return pid;
    }

    @Override
    public long backendStart() {
        return 0;
    }

    /** How the heartbeat's connection reaches the server is how r2lock's others do. */
    @Override
    public boolean isPooled() {
        return client.open().stream().anyMatch(Watched::isPooled);
    }

    @Override
    public @Nullable Scheduler loop() {
        return LockConnection.loopOf(wire());
    }

    @Override
    Mono<FencingToken> askToken() {
        // its owner may complete the transaction at any moment: an id that is assigned after that is nobody's token
        return hadIdBefore
                ? JoinedToken.refused(this, JoinedToken.HAD_ID)
                : TokenStatement.ask(this, this, keys(), TokenStatement.ANY_TIME);
    }

    @Override
    Lane lane() {
        return lane;
    }

    @Override
    PostgresqlConnection wire() {
        return own.wire();
    }

    @Override
    boolean isUsable() {
        return usable;
    }

    @Override
    void marksConnection() {
        // what statements leave in the session is the owner's
    }

    @Override
    boolean isLive() {
        return isOpen();
    }

    @Override
    boolean isOpen() {
        return state.get() == State.HELD;
    }

    @Override
    boolean isCommit() {
        return state.get() == State.COMMITTED;
    }

    @Override
    boolean end(boolean commit) {
        if (!state.compareAndSet(State.HELD, commit ? State.COMMITTED : State.RELEASED)) {
            return false;
        }
        endChildren();
        if (commit) {
            lane.finish(this::verify);
        } else {
            lane.desert();
            conclude(null);
        }
        return true;
    }

    @Override
    void lose(String why, @Nullable Throwable cause) {
        LockLostException lost = lost(why, cause);
        if (!isOpen() || !endsBecause(lost)) {
            return;
        }
        if (!state.compareAndSet(State.HELD, State.LOST)) {
            endedOtherwise(lost);
            return;
        }
        client.reports().lost(this, why);
        tellWorker(lost);
        endChildren();
        lane.desert();
        conclude(lost);
    }

    /** Nothing of the work is on the wire. */
    private void verify() {
        if (lane.freeing() == freeingBefore) {
            conclude(null);
            return;
        }
        Exchange.ask(wire(), LockSql.isHeld(keys(), mode()), (error, yes) -> {
            if (error == null) {
                conclude(yes ? null : freed());
            } else {
                // a transaction that has failed is for its owner to tell
                conclude(
                        SqlStates.isConnectionGone(SqlStates.of(error)) ? lost("its connection is gone", error) : null);
            }
        });
    }

    private LockLostException freed() {
        String why = "a statement of the work itself freed it, by rolling back to an older savepoint say";
        client.reports().lost(this, why);
        return lost(why, null);
    }

    private void conclude(@Nullable Throwable error) {
        client.ambientHolds().remove(this);
        closes.dispose();
        own.leave();
        lane.ended();
        ended(error);
    }
}
