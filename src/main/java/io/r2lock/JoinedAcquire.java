package io.r2lock;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Takes keys inside a hold, in its transaction: takes turns with its siblings, then, for keys that no surrounding hold has,
 * enters the connection's {@link Lane} alone and sends a savepoint and the lock as one message.
 *
 * <p>It never queues at a gate of the process, because it holds something already: two chains that hold A and B and nest B and
 * A would wait there for ever, unseen; on the server PostgreSQL sees them. It does queue for its siblings' turns, which only
 * this process can see: {@link TurnWaits} refuses who would close a cycle there.
 */
final class JoinedAcquire extends Acquire {

    private final Hold parent;
    private final TransactionHold root;
    private final GatePass turns;
    private final List<LockKey> missing = new ArrayList<>(1);
    private final GatePass places;
    private final Waiter section;
    private @Nullable String impossible;

    JoinedAcquire(DefaultAdvisoryLocks client, LockSpec spec, Hold parent, Receiver receiver) {
        super(client, spec, parent, receiver);
        this.parent = parent;
        this.root = parent.root();
        this.section = root.lane().place(LockMode.EXCLUSIVE, turn -> send());
        this.turns = GatePass.forTurns(
                root.lane(),
                spec.keys().stream().map(this::turnFor).toList(),
                this,
                this::haveTurns,
                this::closesCycle);
        this.places = GatePass.forServer(client.gates(), missing, spec, () -> {});
    }

    private ChildKey turnFor(LockKey key) {
        if (parent.isTakenOutside(root, key)) {
            impossible = "the same chain holds " + key
                    + " in another transaction, so waiting for it could only deadlock itself";
            return new ChildKey(root, key);
        }
        Hold owner = parent.ownerOf(key);
        if (owner == null) {
            missing.add(key);
            return new ChildKey(root, key);
        }
        if (owner.mode() == LockMode.SHARED && spec.mode() == LockMode.EXCLUSIVE) {
            impossible =
                    "the same chain holds " + key + " as shared, and two chains that both ask for more would deadlock"
                            + " each other; ask for the exclusive lock first";
        }
        return new ChildKey(owner, key);
    }

    @Override
    void begin() {
        if (impossible != null) {
            fail(QUEUED, new IllegalStateException("No " + waited.attempt() + ": " + impossible));
        } else if (!parent.adopt(this)) {
            stop(Stop.SURROUNDING_ENDED);
        } else if (isEnded()) {
            parent.abandon(this);
        } else if (!spec.noWait()) {
            turns.queue();
        } else if (turns.tryAll()) {
            haveTurns();
        } else {
            parent.abandon(this);
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
        if (advance(QUEUED, BORROWING) && root.lane().enter(section)) {
            send();
        }
    }

    private void send() {
        // the lane's rule: entered first, the hold looked at after
        if (!root.isLive()) {
            stop(Stop.SURROUNDING_ENDED);
            return;
        }
        String sql = spec.noWait()
                ? LockSql.tryLockNested(missing, spec.mode())
                : LockSql.lockNested(missing, spec.mode(), waited.limitMillis());
        lock(root.lockConnection(), sql, spec.noWait());
    }

    @Override
    void granted() {
        if (!missing.isEmpty()) {
            places.prove();
            root.keepUntilEnd(missing, places);
        }
        if (missing.isEmpty() || !spec.noWait()) {
            join(null);
            return;
        }
        // the message that tried could not know the answer
        LockConnection on = root.lockConnection();
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.send(LockSql.KEEP_NESTED, (error, yes) -> {
            on.inTime(limit);
            join(error);
        });
    }

    private void join(@Nullable Throwable error) {
        // before the statements that wait are let in: it counts from here on those that may free it
        JoinedHold hold = new JoinedHold(this, parent);
        root.lane().leave(section);
        // before it is delivered, so that its work does not start
        if (!parent.isLive()) {
            hold.abort(waited.lost("the surrounding hold ended first"));
        } else if (error != null) {
            hold.abort(waited.lost("the connection of the surrounding hold failed: " + error.getMessage()));
        }
        deliver(hold);
        // whoever ended the surrounding hold may have looked for this one before it was there
        if (!parent.isLive()) {
            endHold(Stop.SURROUNDING_ENDED);
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
        return root.lockConnection().isUsable() && !SqlStates.isConnectionGone(SqlStates.of(error))
                ? waited.failure(error)
                : waited.lost("the connection of the surrounding hold is gone");
    }

    @Override
    void undo() {
        undoNested(this::stopped);
    }

    private void undoNested(Runnable then) {
        LockConnection on = root.lockConnection();
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
        root.lane().leave(section);
        leaveTurns();
        parent.abandon(this);
    }

    /** What the server was asked for, beside what the surrounding holds had. */
    List<LockKey> missing() {
        return missing;
    }

    void leaveTurns() {
        turns.leave();
    }

    @Override
    public String toString() {
        return "joined " + Objects.toString(spec);
    }
}
