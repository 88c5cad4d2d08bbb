package io.r2lock;

import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.classes;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static org.assertj.core.api.Assertions.assertThat;

import com.tngtech.archunit.base.DescribedPredicate;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.JavaModifier;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** What keeps the house in order, beside sizes and left-overs, which the build checks in the sources. */
class HouseRulesTest {

    private static final JavaClasses SHIPPED = new ClassFileImporter()
            .withImportOption(new ImportOption.DoNotIncludeTests())
            .importPackages("io.r2lock");

    @Test
    void thePublicFaceIsWhatTheDesignNames() {
        Set<String> face = SHIPPED.stream()
                .filter(type -> type.getModifiers().contains(JavaModifier.PUBLIC))
                .filter(type -> type.getPackageName().equals("io.r2lock"))
                .filter(JavaClass::isTopLevelClass)
                .map(JavaClass::getSimpleName)
                .collect(Collectors.toSet());
        assertThat(face)
                .containsExactlyInAnyOrder(
                        "AdvisoryLocks",
                        "AmbientTransaction",
                        "ConnectionOptions",
                        "HoldOptions",
                        "LockRequest",
                        "FencingToken",
                        "HeldLock",
                        "SelfCheck",
                        "LockHoldExpiredException",
                        "LockKey",
                        "LockInfo",
                        "LockMode",
                        "LockListener",
                        "LeaderElection",
                        "Leadership",
                        "LeadershipEvent",
                        "AdvisoryLockException",
                        "LockNotAvailableException",
                        "LockTimeoutException",
                        "LockDeadlockException",
                        "LockLostException",
                        "LockCapacityException",
                        "LockServerException",
                        "CommitOutcomeUnknownException",
                        "LocksClosedException");
    }

    @Test
    void theGatesKnowNoSqlAndNoDriver() {
        noClasses()
                .that()
                .haveSimpleNameStartingWith("KeyGate")
                .or()
                .haveSimpleName("Waiter")
                .or()
                .haveSimpleName("GatePass")
                .should()
                .dependOnClassesThat()
                .resideInAnyPackage("io.r2dbc..", "reactor.pool..")
                .orShould()
                .dependOnClassesThat()
                .haveSimpleName("LockSql")
                .check(SHIPPED);
    }

    @Test
    void theWireKnowsNoGates() {
        noClasses()
                .that()
                .haveSimpleNameStartingWith("LockConnection")
                .or()
                .haveSimpleNameStartingWith("ServerCancel")
                .or()
                .haveSimpleNameStartingWith("Exchange")
                .or()
                .haveSimpleNameStartingWith("ConnectionOpener")
                .or()
                .haveSimpleName("SessionConnection")
                .or()
                .haveSimpleName("SessionClaims")
                .or()
                .haveSimpleName("Reconciliation")
                .or()
                .haveSimpleName("LockBatch")
                .should()
                .dependOnClassesThat()
                .haveSimpleNameStartingWith("KeyGate")
                .orShould()
                .dependOnClassesThat()
                .haveSimpleName("Waiter")
                .orShould()
                .dependOnClassesThat()
                .areAssignableTo(Hold.class)
                .check(SHIPPED);
    }

    @Test
    void nothingBlocks() {
        noClasses()
                .should()
                .callMethodWhere(DescribedPredicate.describe(
                        "blocks its thread",
                        call -> Set.of(
                                        "block",
                                        "blockFirst",
                                        "blockLast",
                                        "blockOptional",
                                        "toFuture",
                                        "sleep",
                                        "park",
                                        "parkNanos")
                                .contains(call.getName())))
                .check(SHIPPED);
    }

    @Test
    void timeComesFromTheInjectedScheduler() {
        noClasses()
                .should()
                .callMethod(System.class, "nanoTime")
                .orShould()
                .callMethod(System.class, "currentTimeMillis")
                .check(SHIPPED);
    }

    @Test
    void nothingButTheDeclaredLibrariesIsUsed() {
        classes()
                .should()
                .onlyDependOnClassesThat()
                .resideInAnyPackage(
                        "java..",
                        "io.r2lock..",
                        "io.r2dbc.spi..",
                        "io.r2dbc.postgresql..",
                        "reactor..",
                        "org.reactivestreams..",
                        "org.slf4j..",
                        "org.jspecify..")
                .check(SHIPPED);
    }
}
