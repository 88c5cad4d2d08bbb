package io.r2lock;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Takes keys inside a hold: takes turns with its siblings, then, for keys that no surrounding hold has, enters the {@link Lane} of
 * the nearest transaction alone and sends a savepoint and the lock as one message. Where the surrounding holds have all keys, there
 * need not be a transaction.
 *
 * <p>It never queues at a gate of the process, because it holds something already: two chains that hold A and B and nest B and
 * A would wait there for ever, unseen; on the server PostgreSQL sees them. It does queue for its siblings' turns, which only
 * this process can see: {@link TurnWaits} refuses who would close a cycle there.
 */
final class JoinedAcquire extends StatementAcquire {

    private final Hold parent;
    private final HoldChain chain;
    private final @Nullable TransactionHold transaction;
    private final GatePass turns;
    private final List<LockKey> missing = new ArrayList<>(1);

    /** The holds that this one cannot outlive: the parent, and those of other roots that have its keys. */
    private final Set<Hold> anchors = new LinkedHashSet<>();

    private final GatePass places;
    private final @Nullable Waiter section;
    private @Nullable String impossible;

    /** The message that locked them has let go of its savepoint: they cannot be given back any more. */
    private volatile boolean kept;

    /** Who has the first key. */
    private @Nullable Hold holder;

    JoinedAcquire(DefaultAdvisoryLocks client, LockSpec spec, Hold parent, HoldChain chain, Receiver receiver) {
        super(client, spec, parent, receiver);
        this.parent = parent;
        this.chain = chain;
        this.transaction = chain.transaction();
        this.section = transaction == null ? null : transaction.lane().place(LockMode.EXCLUSIVE, turn -> send());
        anchors.add(parent);
        this.turns = GatePass.forTurns(
                parent.turns(),
                spec.keys().stream().map(this::turnFor).toList(),
                this,
                this::haveTurns,
                this::closesCycle);
        this.places = GatePass.forServer(client.gates(), missing, spec, () -> {});
    }

    private ChildKey turnFor(LockKey key) {
        if (chain.isTakenByOther(transaction, key, spec)) {
            impossible = "the same chain holds " + key
                    + " in another transaction, so waiting for it could only deadlock itself";
            return new ChildKey(parent.root(), key);
        }
        Hold owner = chain.ownerOf(key, spec);
        if (holder == null) {
            holder = owner == null ? takenIn() : owner;
        }
        if (owner == null) {
            missing.add(key);
            anchor(takenIn());
            return new ChildKey(takenIn(), key);
        }
        anchor(owner);
        if (owner.mode() == LockMode.SHARED && spec.mode() == LockMode.EXCLUSIVE) {
            impossible =
                    "the same chain holds " + key + " as shared, and two chains that both ask for more would deadlock"
                            + " each other; ask for the exclusive lock first";
        }
        return new ChildKey(owner, key);
    }

    /** A hold of the parent's own root is ended before that anyway. */
    private void anchor(Hold hold) {
        if (hold.root() != parent.root()) {
            anchors.add(hold);
        }
    }

    /** Where the missing keys are taken. */
    private TransactionHold takenIn() {
        return Objects.requireNonNull(transaction);
    }

    /** Its place in the lane there. */
    private Waiter section() {
        return Objects.requireNonNull(section);
    }

    private boolean adopted() {
        for (Hold anchor : anchors) {
            if (!anchor.adopt(this)) {
                return false;
            }
        }
        return true;
    }

    private void abandoned() {
        anchors.forEach(anchor -> anchor.abandon(this));
    }

    /** Whether everything that it relies on is still held. */
    boolean isAnchored() {
        for (Hold anchor : anchors) {
            if (!anchor.isLive()) {
                return false;
            }
        }
        return true;
    }

    @Override
    void begin() {
        if (impossible != null) {
            fail(QUEUED, new IllegalStateException("No " + waited.attempt() + ": " + impossible));
        } else if (!adopted()) {
            stop(Stop.SURROUNDING_ENDED);
        } else if (isEnded()) {
            abandoned();
        } else if (!spec.noWait()) {
            turns.queue();
        } else if (turns.tryAll()) {
            haveTurns();
        } else {
            abandoned();
            fail(QUEUED, waited.busy("by another request inside the same hold"));
        }
    }

    private void closesCycle() {
        withdraw();
        fail(QUEUED, waited.cycle());
    }

    private void haveTurns() {
        if (missing.isEmpty()) {
            if (advance(QUEUED, GRANTED)) {
                granted();
            }
            return;
        }
        places.tryEach();
        if (advance(QUEUED, BORROWING) && takenIn().lane().enter(section())) {
            send();
        }
    }

    private void send() {
        // the lane's rule: entered first, the hold looked at after
        if (!takenIn().isLive()) {
            stop(Stop.SURROUNDING_ENDED);
            return;
        }
        String sql = spec.noWait()
                ? LockSql.tryLockNested(missing, spec.mode())
                : LockSql.lockNested(missing, spec.mode(), waited.limitMillis());
        LockConnection on = takenIn().lockConnection();
        lockBehind(free -> nest(on, free), on, sql, spec.noWait());
    }

    /** Its own message, in front of the lock's: a CancelRequest that hit the savepoint would fail the transaction around it. */
    private void nest(LockConnection on, Runnable free) {
        long limit = spec.noWait() ? 0 : on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.send(LockSql.NEST, (error, yes) -> {
            if (!spec.noWait()) {
                on.inTime(limit);
            }
            free.run();
        });
    }

    @Override
    void send(LockConnection on, String sql, boolean ask, Exchange.Listener listener) {
        super.send(on, sql, ask, (error, yes) -> {
            kept = error == null && !spec.noWait();
            listener.ended(error, yes);
        });
    }

    @Override
    void granted() {
        keep();
        if (missing.isEmpty() || !spec.noWait()) {
            join(null);
            return;
        }
        // the message that tried could not know the answer
        LockConnection on = takenIn().lockConnection();
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.send(LockSql.KEEP_NESTED, (error, yes) -> {
            on.inTime(limit);
            join(error);
        });
    }

    private void keep() {
        if (!missing.isEmpty()) {
            places.prove();
            takenIn().keepUntilEnd(missing, places);
        }
    }

    private void join(@Nullable Throwable error) {
        // before the statements that wait are let in: it counts from here on those that may free it
        JoinedHold hold = new JoinedHold(this, parent);
        leaveLane();
        // before it is delivered, so that its work does not start
        if (!isAnchored()) {
            hold.abort(waited.lost("the surrounding hold ended first"));
        } else if (error != null) {
            hold.abort(waited.lost("the connection of the surrounding hold failed: " + error.getMessage()));
        }
        deliver(hold);
        // whoever ended the surrounding hold may have looked for this one before it was there
        if (!isAnchored()) {
            endHold(Stop.SURROUNDING_ENDED);
        }
    }

    private void leaveLane() {
        if (!missing.isEmpty()) {
            takenIn().lane().leave(section());
        }
    }

    @Override
    void refused(@Nullable Throwable error) {
        undoNested(() -> fail(
                UNDOING,
                error == null
                        ? waited.busy("by another process, or by another hold on the server")
                        : failureOf(error)));
    }

    private AdvisoryLockException failureOf(Throwable error) {
        return takenIn().lockConnection().isUsable() && !SqlStates.isConnectionGone(SqlStates.of(error))
                ? failure(error)
                : waited.lost("the connection of the surrounding hold is gone");
    }

    /** A grant that crossed the stop stays with the transaction: going back to its savepoint, which is gone, would fail that. */
    @Override
    void undo() {
        if (!kept) {
            undoNested(this::stopped);
            return;
        }
        keep();
        leaveLane();
        leave();
        stopped();
    }

    private void undoNested(Runnable then) {
        LockConnection on = takenIn().lockConnection();
        if (!on.isUsable()) {
            withdraw();
            then.run();
            return;
        }
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.send(LockSql.UNDO_NESTED, (error, yes) -> {
            on.inTime(limit);
            withdraw();
            then.run();
        });
    }

    @Override
    void withdraw() {
        places.leave();
        leaveLane();
        leave();
    }

    /** Also called by the hold when it has ended. */
    void leave() {
        turns.leave();
        abandoned();
    }

    /** The hold that has the first key on the server. */
    Hold holder() {
        return Objects.requireNonNull(holder);
    }

    /** The nearest transaction around it, which may have ended meanwhile. */
    @Nullable
    TransactionHold transaction() {
        return transaction;
    }

    /** What the server was asked for, beside what the surrounding holds had. */
    List<LockKey> missing() {
        return missing;
    }

    @Override
    public String toString() {
        return "joined " + Objects.toString(spec);
    }
}
