package health

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// maxText is the longest text that one call may make.
const maxText = 1 << 20

// functions are those of the language beside CEL's own.
func functions() []cel.EnvOption {
	list := cel.ListType(cel.DynType)
	return []cel.EnvOption{
		cel.OptionalTypes(),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
		ext.TwoVarComprehensions(),
		cel.Function("named",
			cel.MemberOverload("list_named_type", []*cel.Type{list, cel.StringType}, cel.DynType,
				cel.FunctionBinding(named)),
			cel.MemberOverload("list_named_type_status", []*cel.Type{list, cel.StringType, cel.StringType}, cel.DynType,
				cel.FunctionBinding(named))),
		cel.Function("sum",
			cel.MemberOverload("list_sum", []*cel.Type{list}, cel.DynType, cel.UnaryBinding(sum))),
		// The cost of a call counts after it, which is too late for those that
		// multiply what they are given: they are asked before whether there is
		// room.
		cel.Function("room",
			cel.Overload("room_dyn_dyn", []*cel.Type{cel.DynType, cel.DynType}, cel.DynType, cel.BinaryBinding(room))),
		cel.Macros(
			cel.ReceiverMacro("replace", 2, targetRoom),
			cel.ReceiverMacro("replace", 3, targetRoom),
			cel.ReceiverMacro("join", 0, targetRoom),
			cel.ReceiverMacro("join", 1, targetRoom),
			cel.ReceiverMacro("format", 1, argumentRoom),
		),
	}
}

// named is the first of a list of conditions that has the type, and the status
// where there is one.
func named(args ...ref.Val) ref.Val {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(args[0])
	}
	for it := list.Iterator(); it.HasNext() == types.True; {
		c, ok := it.Next().(*object)
		if !ok || c.fields["type"] != args[1].Value() {
			continue
		}
		if len(args) == 2 || c.fields["status"] == args[2].Value() {
			return c
		}
	}
	kind, _ := args[1].(types.String)
	return absent(nil, "condition "+string(kind))
}

func sum(v ref.Val) ref.Val {
	list, ok := v.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	var total ref.Val = types.IntZero
	for it := list.Iterator(); it.HasNext() == types.True; {
		n := it.Next()
		switch {
		case n.Type() != types.IntType && n.Type() != types.DoubleType:
			return types.MaybeNoSuchOverloadErr(n)
		case n.Type() == types.DoubleType && total.Type() == types.IntType:
			total = total.ConvertToType(types.DoubleType)
		case n.Type() == types.IntType && total.Type() == types.DoubleType:
			n = n.ConvertToType(types.DoubleType)
		}
		total = total.(traits.Adder).Add(n)
		if types.IsError(total) {
			return total
		}
	}
	return total
}

// targetRoom makes X.f(…, Y) into room(X, Y).f(…, Y), where Y is the string
// argument that can come more than once in the result.
func targetRoom(f cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	name := "join"
	with := f.NewLiteral(types.String(""))
	switch len(args) {
	case 1:
		with = f.Copy(args[0])
	case 2, 3:
		name, with = "replace", f.Copy(args[1])
	}
	return f.NewMemberCall(name, f.NewCall("room", target, with), args...), nil
}

// argumentRoom makes X.format(L) into X.format(room(L, "")).
func argumentRoom(f cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	return f.NewMemberCall("format", target, f.NewCall("room", args[0], f.NewLiteral(types.String("")))), nil
}

// room is v, a string or list, or an error where with after each of its
// characters or items made a text that is too long.
func room(v, with ref.Val) ref.Val {
	each := 0
	if s, ok := with.(types.String); ok {
		each = len(s)
	}
	if total := length(v, each); total > maxText {
		return types.NewErr("the text would be longer than %d bytes", maxText)
	}
	return v
}

func length(v ref.Val, each int) int {
	switch v := v.(type) {
	case types.String:
		return len(v) + (len(v)+1)*each
	case traits.Lister:
		total := 0
		for it := v.Iterator(); it.HasNext() == types.True && total <= maxText; {
			total += each + length(it.Next(), 0)
		}
		return total
	}
	return 0
}
