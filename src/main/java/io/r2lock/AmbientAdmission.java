package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Wrapped;
import io.r2lock.AmbientTransaction.Participation;
import java.time.Duration;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import reactor.util.context.ContextView;

/**
 * Where a request goes that stands in an ambient transaction.
 *
 * <p>A key that the chain holds is re-entrant, wherever it is held. Otherwise the innermost transaction is joined: r2lock's own where it
 * was begun inside the ambient one ({@code requireNew}), else the ambient one. What asks for a connection of its own although the
 * ambient transaction has the key would wait for itself, and is refused.
 *
 * <p>What the transaction's owner says is code of somebody else's: whatever that throws is the request's error.
 */
final class AmbientAdmission {

    private final DefaultAdvisoryLocks client;
    private final Admission admission;
    private final AmbientScopes scopes = new AmbientScopes();
    private final RecentKeys recent;

    /** Whose backends the heartbeat watches. */
    private final Set<AmbientHold> holds = ConcurrentHashMap.newKeySet();

    /** That have no answer yet, for {@link #close}. */
    private final Set<AmbientLookup> lookups = ConcurrentHashMap.newKeySet();

    AmbientAdmission(DefaultAdvisoryLocks client, Admission admission) {
        this.client = client;
        this.admission = admission;
        this.recent = new RecentKeys(client.collisions());
    }

    Set<AmbientHold> holds() {
        return holds;
    }

    /** Asks for the transaction around a request. */
    void lookUp(
            AmbientTransaction outside,
            LockSpec spec,
            ContextView context,
            Acquire.Receiver receiver,
            AmbientLookup.Next next) {
        recent.asked(spec);
        new AmbientLookup(client, spec, context, receiver, next).ask(outside, lookups);
    }

    /** No request waits for an answer any more; the client says that it is closing before. */
    void close() {
        lookups.forEach(AmbientLookup::close);
    }

    AmbientScopes scopes() {
        return scopes;
    }

    /** {@code null} when the receiver was told an error instead. */
    @Nullable
    Acquire attempt(HoldChain chain, LockSpec spec, Participation transaction, Acquire.Receiver receiver) {
        boolean reentrant =
                !spec.requireNew() && chain.owned(spec) == spec.keys().size();
        AmbientScope scope;
        PostgresqlConnection wire = null;
        try {
            scope = scopes.known(transaction);
            if (!reentrant && joins(chain, spec, scope)) {
                check(chain, spec);
                // first: of one that has none nothing is kept
                wire = wire(spec, transaction);
                scope = scopes.of(transaction, chain.innermost());
            } else if (!reentrant) {
                scope = spec.requireNew() && !spec.inSession() ? scopes.of(transaction, chain.innermost()) : scope;
                checkElsewhere(spec, scope);
            }
        } catch (Throwable thrown) {
            return admission.refuse(receiver, thrown);
        }
        if (wire != null && scope != null) {
            return new AmbientAcquire(client, spec, chain.innermost(), wire, scope, receiver);
        }
        Acquire attempt = admission.inside(chain, spec, receiver);
        if (attempt != null && !reentrant) {
            attempt.within = scope;
        }
        return attempt;
    }

    /** Whether it takes its keys in the transaction, and not on a connection of r2lock's own. */
    private static boolean joins(HoldChain chain, LockSpec spec, @Nullable AmbientScope scope) {
        TransactionHold own = chain.transaction();
        boolean isInsideOwn = own != null && scope != null && own.acquire.within == scope;
        return !spec.inSession() && !spec.requireNew() && !isInsideOwn;
    }

    private static void check(HoldChain chain, LockSpec spec) {
        RuntimeException unbounded = chain.unbounded(spec);
        if (unbounded != null) {
            throw unbounded;
        }
        if (chain.owned(spec) > 0) {
            throw refusal(
                    spec, "the surrounding holds have some of the keys and not the others. Ask for the others only.");
        }
        LockKey left = chain.taken(spec);
        if (left != null) {
            throw refusal(
                    spec,
                    "the same chain holds " + left
                            + " in another transaction, so waiting for it could only deadlock itself");
        }
    }

    private void checkElsewhere(LockSpec spec, @Nullable AmbientScope scope) {
        LockKey taken = scope == null ? null : scope.taken(spec);
        if (taken != null && spec.noWait()) {
            throw new Waited(spec, client.options().clock()).busy("by the transaction around it");
        }
        if (taken != null) {
            throw refusal(
                    spec,
                    "the transaction around it has " + taken
                            + ", so waiting for it elsewhere could only deadlock itself");
        }
    }

    private static PostgresqlConnection wire(LockSpec spec, Participation transaction) {
        Object given = Objects.requireNonNull(transaction.connection(), "The AmbientTransaction has no connection");
        Object connection = given;
        while (connection != null && !(connection instanceof PostgresqlConnection)) {
            connection = connection instanceof Wrapped<?> wrapper ? wrapper.unwrap() : null;
        }
        if (connection == null) {
            throw refusal(
                    spec,
                    "the connection of the ambient transaction must be one of r2dbc-postgresql, or a wrapper that unwraps"
                            + " to one, was " + given);
        }
        return (PostgresqlConnection) connection;
    }

    private static IllegalStateException refusal(LockSpec spec, String why) {
        return new IllegalStateException("No " + spec.attempt(Duration.ZERO) + ": " + why);
    }
}
