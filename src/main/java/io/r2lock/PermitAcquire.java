package io.r2lock;

import java.util.List;
import java.util.Objects;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Takes one of the permits of a key: waits at the {@link PermitGate}, which tries the slots for all that wait there.
 *
 * <p>{@code QUEUED} is behind other callers of this process, or behind its own holds; {@code PAUSING}, its turn, while the server
 * is tried again and again. The gate decides between a grant and a stop: whoever was served when the stop came gives its slot back.
 */
final class PermitAcquire extends Acquire implements PermitCaller.Told {

    private final PermitCaller caller;

    PermitAcquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        super(client, spec, surrounding, receiver);
        this.caller = new PermitCaller(spec, surrounding != null, this);
    }

    @Override
    void begin() {
        RuntimeException impossible = surrounding == null ? null : impossibleInside(surrounding);
        if (impossible == null) {
            client.permits().enter(caller);
        } else if (advance(QUEUED, UNDOING)) {
            fail(UNDOING, impossible);
        }
    }

    private @Nullable RuntimeException impossibleInside(Hold around) {
        if (new HoldChain(around).taken(spec) != null) {
            return new IllegalStateException("No new " + waited.attempt()
                    + ": the same chain has one, so waiting for another could only deadlock itself");
        }
        return null;
    }

    @Override
    public void atServer() {
        advance(QUEUED, PAUSING);
    }

    @Override
    public void served(SessionLock lock) {
        if (advance(QUEUED, GRANTED) || advance(PAUSING, GRANTED)) {
            SessionHold hold = new SessionHold(this, List.of(lock), this::release);
            hold.watch();
            deliver(hold);
        } else {
            release(lost -> stopped());
        }
    }

    private void release(Consumer<@Nullable String> done) {
        client.permits().leave(caller, done);
    }

    @Override
    public void busy() {
        end(waited.busy("by others"));
    }

    @Override
    public void differs(int permits) {
        end(new IllegalStateException("No " + waited.attempt() + ": this client counts " + permits
                + " permits of that key at the moment. The number must be the same everywhere, " + spec.permits()
                + " or " + permits + "."));
    }

    @Override
    public void failed(@Nullable Throwable error) {
        end(
                client.isClosing()
                        ? waited.closed()
                        : failure(error == null ? new IllegalStateException("the connection was closed") : error));
    }

    /** The gate has forgotten the caller. */
    private void end(RuntimeException error) {
        if (!advance(QUEUED, UNDOING)) {
            advance(PAUSING, UNDOING);
        }
        fail(UNDOING, error);
    }

    @Override
    public void left() {
        stopped();
    }

    @Override
    boolean endsAtOnce() {
        return false;
    }

    @Override
    void stoppedEarly(Stop reason) {
        undo();
    }

    @Override
    void interrupt() {
        throw new IllegalStateException("a permit is never waited for by a statement");
    }

    @Override
    void undo() {
        client.permits().stop(caller);
    }

    @Override
    public String toString() {
        return "permit " + Objects.toString(spec);
    }
}
