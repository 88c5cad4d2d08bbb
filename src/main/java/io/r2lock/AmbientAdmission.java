package io.r2lock;

import io.r2lock.AmbientTransaction.Participation;
import java.time.Duration;
import org.jspecify.annotations.Nullable;

/**
 * Where a request goes that stands in an ambient transaction.
 *
 * <p>A key that the chain holds is re-entrant, wherever it is held. Otherwise the innermost transaction is joined: r2lock's own where it
 * was begun inside the ambient one ({@code requireNew}), else the ambient one. What asks for a connection of its own although the
 * ambient transaction has the key would wait for itself, and is refused.
 */
final class AmbientAdmission {

    private final DefaultAdvisoryLocks client;
    private final Admission admission;
    private final AmbientScopes scopes = new AmbientScopes();

    AmbientAdmission(DefaultAdvisoryLocks client, Admission admission) {
        this.client = client;
        this.admission = admission;
    }

    AmbientScopes scopes() {
        return scopes;
    }

    /** {@code null} when the receiver was told an error instead; throws what the participation does. */
    @Nullable
    Acquire attempt(HoldChain chain, LockSpec spec, Participation transaction, Acquire.Receiver receiver) {
        AmbientScope scope = spec.inSession() ? scopes.known(transaction) : scopes.of(transaction, chain.innermost());
        long owned = spec.requireNew() ? 0 : chain.owned(spec);
        if (owned == spec.keys().size() || scope == null) {
            return admission.inside(chain, spec, receiver);
        }
        if (spec.inSession() || spec.requireNew() || isInside(chain.transaction(), scope)) {
            return outside(chain, spec, scope, receiver);
        }
        RuntimeException refused = chain.unbounded(spec);
        if (refused == null && owned > 0) {
            refused = refusal(
                    spec, "the surrounding holds have some of the keys and not the others. Ask for the others only.");
        }
        LockKey left = chain.taken(spec);
        if (refused == null && left != null) {
            refused = refusal(
                    spec,
                    "the same chain holds " + left
                            + " in another transaction, so waiting for it could only deadlock itself");
        }
        return refused == null
                ? new AmbientAcquire(client, spec, chain.innermost(), transaction, scope, receiver)
                : admission.refuse(receiver, refused);
    }

    /** On a connection of r2lock's own. */
    private @Nullable Acquire outside(HoldChain chain, LockSpec spec, AmbientScope scope, Acquire.Receiver receiver) {
        LockKey taken = scope.taken(spec);
        if (taken != null) {
            return admission.refuse(
                    receiver,
                    refusal(
                            spec,
                            "the transaction around it has " + taken
                                    + ", so waiting for it elsewhere could only deadlock itself"));
        }
        Acquire attempt = admission.inside(chain, spec, receiver);
        if (attempt != null) {
            attempt.within = scope;
        }
        return attempt;
    }

    private static boolean isInside(@Nullable TransactionHold own, AmbientScope scope) {
        return own != null && own.acquire.within == scope;
    }

    private static IllegalStateException refusal(LockSpec spec, String why) {
        return new IllegalStateException("No " + spec.attempt(Duration.ZERO) + ": " + why);
    }
}
