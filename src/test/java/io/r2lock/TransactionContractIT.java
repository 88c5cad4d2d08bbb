package io.r2lock;

class TransactionContractIT extends LockContract {

    TransactionContractIT() {
        super(TestServer.newest());
    }
}
