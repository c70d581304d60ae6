package namespace

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// family is where all rules are: IPv4 and IPv6 together.
const family = unix.NFPROTO_INET

// ownedTable is NFT_TABLE_F_OWNER: only the socket that made the table may
// change it, and the kernel removes the table when that socket closes.
const ownedTable = 0x2

// A chain's policy: NF_DROP and NF_ACCEPT.
const (
	verdictDrop   = 0
	verdictAccept = 1
)

// transaction collects nftables messages that take effect all or none. The
// nftables library encodes the expressions; the messages around them are made
// here because it can't make an owned table.
type transaction struct {
	table    string
	messages []netlink.Message
	err      error
}

func newTransaction(table string) *transaction {
	t := &transaction{table: table}
	t.add(unix.NFT_MSG_NEWTABLE, netlink.Excl, []netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: text(table)},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(ownedTable)},
	})
	return t
}

// chain adds a chain on locally made packets. policy is verdictAccept or NF_DROP.
func (t *transaction) chain(name, kind string, priority int32, policy uint32) {
	hook := t.marshal([]netlink.Attribute{
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: binaryutil.BigEndian.PutUint32(unix.NF_INET_LOCAL_OUT)},
		{Type: unix.NFTA_HOOK_PRIORITY, Data: binaryutil.BigEndian.PutUint32(uint32(priority))},
	})
	t.add(unix.NFT_MSG_NEWCHAIN, 0, []netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: text(t.table)},
		{Type: unix.NFTA_CHAIN_NAME, Data: text(name)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_CHAIN_HOOK, Data: hook},
		{Type: unix.NFTA_CHAIN_POLICY, Data: binaryutil.BigEndian.PutUint32(policy)},
		{Type: unix.NFTA_CHAIN_TYPE, Data: text(kind)},
	})
}

// rule appends a rule to a chain.
func (t *transaction) rule(chain string, parts ...[]expr.Any) {
	var elements []netlink.Attribute
	for _, part := range parts {
		for _, e := range part {
			data, err := expr.Marshal(family, e)
			if err != nil && t.err == nil {
				t.err = fmt.Errorf("encode %T: %w", e, err)
			}
			elements = append(elements, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
		}
	}
	t.add(unix.NFT_MSG_NEWRULE, netlink.Append, []netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: text(t.table)},
		{Type: unix.NFTA_RULE_CHAIN, Data: text(chain)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: t.marshal(elements)},
	})
}

func (t *transaction) add(kind uint16, flags netlink.HeaderFlags, attributes []netlink.Attribute) {
	t.messages = append(t.messages, netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | flags,
		},
		Data: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, t.marshal(attributes)...),
	})
}

func (t *transaction) marshal(attributes []netlink.Attribute) []byte {
	b, err := netlink.MarshalAttributes(attributes)
	if err != nil && t.err == nil {
		t.err = err
	}
	return b
}

// commit sends everything on conn, which then owns the table.
func (t *transaction) commit(conn *netlink.Conn) error {
	if t.err != nil {
		return t.err
	}
	bracket := func(kind netlink.HeaderType) netlink.Message {
		data := binary.BigEndian.AppendUint16([]byte{0, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: data}
	}
	all := []netlink.Message{bracket(unix.NFNL_MSG_BATCH_BEGIN)}
	all = append(all, t.messages...)
	all = append(all, bracket(unix.NFNL_MSG_BATCH_END))
	if _, err := conn.SendMessages(all); err != nil {
		return err
	}
	for acknowledged := 0; acknowledged < len(t.messages); {
		answers, err := conn.Receive()
		if err != nil {
			return err
		}
		acknowledged += len(answers)
	}
	return nil
}

// text is a string as netlink wants it.
func text(s string) []byte { return append([]byte(s), 0) }
